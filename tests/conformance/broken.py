"""A backend that breaks one promise, and the laws that must notice: what the suites of such backends are made of."""

from typing import ClassVar

import pytest

from commandstore.memory import MemoryBackend
from commandstore.testing.conformance import Conformance
from conformance.places import MemoryPlace

BASIC = "test_get_of_a_missing_command_is_none"
"""What must still hold: it is the one promise that is broken, and not the whole backend."""


class Broken(Conformance):
    broken: ClassVar[type[MemoryBackend]]
    noticed_by: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        # The other laws aren't collected: there are some ten thousand of them in this file.
        for name in dir(cls):
            if name.startswith("test_") and cls.noticed_by and name not in {BASIC, *cls.noticed_by}:
                setattr(cls, name, None)

    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace(self.broken())


class Blocking(Broken):
    drives = ("blocking",)


class Async(Broken):
    """For what only shows when something else runs between two steps."""

    drives = ("async",)
