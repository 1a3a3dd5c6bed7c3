"""The fixtures of the suite, apart from its laws: how a law gets a store, and what an author declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from commandstore.store import CommandStore
from commandstore.testing.conformance.lab import DriveName, Lab, Place

__all__ = ["MARKER", "ConformanceFixtures"]

MARKER = "async_drive: a law of the conformance suite that runs on asyncio; deselect with -m 'not async_drive'"


class ConformanceFixtures:
    """What an author's class overrides, and the fixtures that the laws ask for."""

    known_deviations: ClassVar[Mapping[str, str]] = {}
    """Laws that this engine is known to break: name of the law, reason. Each must fail, or the test run does."""

    drives: ClassVar[tuple[DriveName, ...]] = ("blocking", "async")
    """How the laws are run; ``("blocking",)`` where what the async client needs isn't installed."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "drive" not in metafunc.fixturenames:
            return
        # Declared here and not by a plugin, which would import this library into every test run.
        if MARKER not in metafunc.config.getini("markers"):
            metafunc.config.addinivalue_line("markers", MARKER)
        reason = self.known_deviations.get(metafunc.function.__name__)
        expected = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        metafunc.parametrize(
            "drive",
            [
                pytest.param(drive, id=drive, marks=[*expected, *([pytest.mark.async_drive] * (drive == "async"))])
                for drive in self.drives
            ],
        )

    @pytest.fixture
    def place(self) -> Place:
        """A fresh and empty place. The author's class overrides this."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `place` that returns a Place")

    @pytest.fixture
    def lab(self, place: Place, drive: DriveName) -> Iterator[Lab]:
        """The place, to be opened in this drive."""
        with Lab(place, drive) as lab:
            yield lab

    @pytest.fixture
    def store(self, lab: Lab) -> CommandStore:
        """An open, empty store."""
        return lab.open()

    def test_every_declared_deviation_names_a_law(self) -> None:
        assert [name for name in self.known_deviations if not callable(getattr(self, name, None))] == []
