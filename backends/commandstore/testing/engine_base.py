"""What every engine has in common: start, wait until it answers, stop; and what happens where it cannot be had."""

from __future__ import annotations

import os
import time
from typing import ClassVar, Self

from commandstore.testing.processes import SupervisedProcess, free_port

__all__ = ["Engine", "EngineUnavailable", "engines_required"]

# The first start on a machine may have to download the engine.
_START_SECONDS = 180.0
_PORT_TAKEN = ("address already in use", "eaddrinuse", "is already in use")
_ATTEMPTS = 5


class EngineUnavailable(RuntimeError):
    """An engine that cannot be had here. The message says how to get it."""


def engines_required() -> bool:
    """Whether a missing engine is a failure: ``COMMANDSTORE_REQUIRE_ENGINES`` is set, and not to 0."""
    return os.environ.get("COMMANDSTORE_REQUIRE_ENGINES", "0") not in {"", "0"}


class Engine:
    """What all engines share: start and stop, and a clear word when they are not to be had."""

    name: ClassVar[str]
    how_to_get: ClassVar[str]

    def __init__(self) -> None:
        self._process: SupervisedProcess | None = None
        self._port = 0

    @classmethod
    def available(cls) -> bool:
        """Whether what starts the engine is installed. Cheap: nothing is started or downloaded."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start the engine and wait until it answers.

        Raises:
            EngineUnavailable: it is not installed, or it did not come up; then with the end of its output.
        """
        if self._process is not None:
            return self
        if not self.available():
            raise EngineUnavailable(f"{self.name} is not here: {self.how_to_get}")
        said = ""
        for _ in range(_ATTEMPTS):
            self._port = free_port()
            process = self._launch(self._port)
            self._process = process
            if self._wait(process):
                return self
            said = process.output()
            self.stop()
            # Between the choice of a port and its use another process may have taken it.
            if not any(sign in said.lower() for sign in _PORT_TAKEN):
                break
        raise EngineUnavailable(f"{self.name} did not start ({self.how_to_get}). Its last output: {said or '(none)'}")

    def stop(self) -> None:
        """End the engine; its data are gone. Stopping one that does not run is fine."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, port: int) -> SupervisedProcess:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _wait(self, process: SupervisedProcess) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while process.alive and time.monotonic() < deadline:
            # Alive is looked at again after the answer, which may have come from whoever holds the port instead.
            if self._answers() and process.alive:
                return True
            time.sleep(0.02)
        return False
