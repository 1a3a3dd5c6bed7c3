"""Engines for the tests that ask for them: started once, at the first use, and stopped at the end of the run."""

import signal
from collections.abc import Callable, Iterator

import pytest

from commandstore.testing.engines import (
    Dynalite,
    Engine,
    EngineUnavailable,
    Ministack,
    Moto,
    Postgres,
    engines_required,
)
from commandstore.testing.firestore import FirestoreEmulator
from secrets_said import pytest_runtest_makereport, pytest_runtest_setup

__all__ = ["pytest_runtest_makereport", "pytest_runtest_setup"]  # hooks


def pytest_configure() -> None:
    # A shell starts its background jobs with SIGINT ignored, and what they start ignores it too: every test of Ctrl-C
    # would then wait for an interrupt that never comes.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _running(engine: Engine) -> Iterator[Engine]:
    try:
        engine.start()
    except EngineUnavailable as missing:
        # The one place for this rule: CI has every engine, a laptop need not.
        if engines_required():
            pytest.fail(f"COMMANDSTORE_REQUIRE_ENGINES is set, but {missing}", pytrace=False)
        pytest.skip(str(missing))
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def ministack() -> Iterator[Engine]:
    """DynamoDB and S3 by ministack."""
    yield from _running(Ministack())


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Engine]:
    """DynamoDB and S3 by moto, in a process of its own."""
    yield from _running(Moto())


@pytest.fixture(scope="session")
def dynalite() -> Iterator[Engine]:
    """DynamoDB by dynalite."""
    yield from _running(Dynalite())


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[Engine]:
    """Firestore by Google's emulator."""
    yield from _running(FirestoreEmulator())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Engine]:
    """A PostgreSQL cluster."""
    yield from _running(Postgres())


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A new, empty PostgreSQL database, as its superuser."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def new_engine() -> Iterator[Callable[[type[Engine]], Engine]]:
    """A function that starts an engine for one test alone, by the same rule."""
    running: list[Iterator[Engine]] = []

    def start(engine_type: type[Engine]) -> Engine:
        lifetime = _running(engine_type())
        engine = next(lifetime)
        running.append(lifetime)
        return engine

    yield start
    for lifetime in running:
        next(lifetime, None)
