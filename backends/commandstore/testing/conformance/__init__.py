"""The conformance suite: each law of the contract is one small test, for any backend, with and without an event loop.

To opt in, say where a store can be, how to read past it, and what the engine can't do::

    from commandstore.testing.conformance import Conformance, Place


    class MyPlace(Place):
        def make_backend(self):
            return MyBackend(...)

        def raw_uuids(self):
            return {...}

        def raw_payload(self, command_uuid):
            return ...


    class TestMyBackend(Conformance):
        known_deviations = {"test_of_racing_deletes_one_finds_it": "the engine has no conditional delete"}

        @pytest.fixture
        def place(self):
            return MyPlace()

Each law runs twice, with the ids ``blocking`` and ``async``; ``-m "not async_drive"`` leaves the second out. A law in
``known_deviations`` must fail (xfail, strict): when the engine is mended, the run says so. A value that the engine's
columns can't hold is declared by ``Place.holds``: the laws then check that it is refused before anything is written.
``CorruptRecordLaws`` and :class:`commandstore.testing.stateful.AgainstMemory` are mixed in beside ``Conformance``.
"""

import pkgutil

import pytest

# Before the laws are imported, so that their assertions say what they compared.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from commandstore.testing.conformance.base import ConformanceFixtures  # noqa: E402 - see above
from commandstore.testing.conformance.changing import DeleteLaws, UpdateLaws  # noqa: E402
from commandstore.testing.conformance.corruption import CorruptRecordLaws  # noqa: E402
from commandstore.testing.conformance.creating import CreateLaws, CreateManyLaws  # noqa: E402
from commandstore.testing.conformance.cursors import CursorLaws  # noqa: E402
from commandstore.testing.conformance.encryption import EncryptionLaws  # noqa: E402
from commandstore.testing.conformance.lab import DriveName, Lab, OverAsync, Place  # noqa: E402
from commandstore.testing.conformance.lifecycle import LifecycleLaws  # noqa: E402
from commandstore.testing.conformance.listing import FilterLaws, ListLaws  # noqa: E402
from commandstore.testing.conformance.primitives import PrimitiveLaws  # noqa: E402
from commandstore.testing.conformance.racing import RaceLaws  # noqa: E402
from commandstore.testing.conformance.reading import ReadLaws, ScanLaws  # noqa: E402
from commandstore.testing.conformance.registers import RegisterLaws  # noqa: E402
from commandstore.testing.conformance.values import SizeLaws, ValueLaws  # noqa: E402

__all__ = [
    "Conformance",
    "ConformanceFixtures",
    "CorruptRecordLaws",
    "CreateLaws",
    "CreateManyLaws",
    "CursorLaws",
    "DeleteLaws",
    "DriveName",
    "EncryptionLaws",
    "FilterLaws",
    "Lab",
    "LifecycleLaws",
    "ListLaws",
    "OverAsync",
    "Place",
    "PrimitiveLaws",
    "RaceLaws",
    "ReadLaws",
    "RegisterLaws",
    "ScanLaws",
    "SizeLaws",
    "UpdateLaws",
    "ValueLaws",
]


class Conformance(
    LifecycleLaws,
    CreateLaws,
    CreateManyLaws,
    ReadLaws,
    ScanLaws,
    ValueLaws,
    SizeLaws,
    ListLaws,
    FilterLaws,
    CursorLaws,
    UpdateLaws,
    DeleteLaws,
    RegisterLaws,
    PrimitiveLaws,
    RaceLaws,
    EncryptionLaws,
    ConformanceFixtures,
):
    """Every law. Subclass it with a fixture ``place``; see the module's docstring."""
