"""What a command says and how it ends; and the secrets that it never says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

_TEXT = "ABCDEFGHIJKLMNOPQRSTUVWXYZab"
KEY = _TEXT.encode() + b"\x80\x00\xff\x0a"  # not text as a whole, which is no key
PASSWORD = "hunter2-s3cret"
PAYLOAD = '{"iban":"DE02 1203 0000 0000 2020 51"}'
SECRETS = (PASSWORD, _TEXT, KEY.hex())


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Program:
    """A command that runs as a program."""

    def __init__(self, args: list[str], said: list[str], **options: Any) -> None:
        self._said = said
        # A shell that runs in the background ignores SIGINT, and its children inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "commandstore", *args],
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options},
                env={**os.environ, "COMMANDSTORE_DEBUG": "", **options.pop("env", {})},
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def result(self) -> Result:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=300)
        self._said.extend(filter(None, (out, err)))
        return Result(self.process.returncode, out or "", err or "")

    def end(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
