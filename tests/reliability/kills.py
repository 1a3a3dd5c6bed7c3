"""Kills processes of the command line at random moments, again and again, while the source grows; then compares.

A kill falls at a random moment of the length that such a run was measured to have, or at a random one of the calls of
Python functions that it makes: the first also hits the middle of a request, the second is the same place each time.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Self

from commandstore import open_store
from commandstore.audit import verify_ledger
from commandstore.drive import run
from commandstore.replication.checkpoint import Checkpoint, register_name
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from reliability.stores import Where

__all__ = ["Account", "Campaign", "Warm"]

_MODULES = {
    "dynamodb": ("boto3", "commandstore.dynamodb.backend"),
    "s3": ("boto3", "commandstore.s3.backend"),
    "firestore": ("google.cloud.firestore", "commandstore.firestore.backend"),
    "postgresql": ("psycopg", "sqlalchemy.dialects.postgresql.psycopg"),
    "sqlite": (),
}
_ALWAYS = ("commandstore.cli.app", "commandstore.sql.backend", "commandstore.replication", "cryptography", "decimal")
_A_LONG_TIME = 300.0
"""In seconds: several syncs at once on a machine with other work take a minute. Only what hangs takes longer."""
_KILLED = -signal.SIGKILL
_OVERTAKEN = "another run found that the source is not what it was"


class Warm:
    """See ``warm.py``. Use it in a ``with``.

    Args:
        scheme: of the destination.
        folder: for the FIFOs of what the processes print.
    """

    def __init__(self, scheme: str, folder: Path) -> None:
        self._folder = folder
        self._names = (f"output-{number}" for number in itertools.count())
        script = Path(__file__).with_name("warm.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(script), *_ALWAYS, *_MODULES[scheme]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        arguments: Sequence[str],
        environment: dict[str, str],
        *,
        calls: int | None = None,
        at_once: float | None = None,
        after_start: float | None = None,
    ) -> Running:
        """Fork one.

        Args:
            arguments: of the command line.
            environment: added to this one.
            calls: it kills itself at this call.
            at_once: kill it so many seconds from now.
            after_start: kill it so many seconds after it says that it begins.
        """
        fifo = self._folder / next(self._names)
        os.mkfifo(fifo)
        # Open before the other end is, which waits for this one.
        output = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        fifo_order = {
            "run": list(arguments),
            "environment": {**environment, "COMMANDSTORE_DEBUG": "1"},
            "output": str(fifo),
            "calls": calls,
        }
        running = Running(self.ask(fifo_order), output, after_start)
        running.kill_at = None if at_once is None else time.monotonic() + at_once
        return running

    def ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def finish(self, *processes: Running) -> list[int]:
        """Kill each at its moment, and wait for all; their exit codes, or their signals below zero."""
        give_up = time.monotonic() + _A_LONG_TIME
        left = list(processes)
        while left:
            now = time.monotonic()
            assert now < give_up, [one.said for one in left]
            for one in left:
                if one.kill_at is not None and one.kill_at <= now:
                    os.kill(one.pid, signal.SIGKILL)
                    one.kill_at = None
            moments = [one.kill_at for one in left if one.kill_at is not None]
            files = [file for one in left for file in one.files]
            ready, _, _ = select.select(files, [], [], min([*moments, give_up]) - now)
            for one in left:
                one.look(ready)
            left = [one for one in left if one.files]
        return [self.ask({"wait": one.pid}) for one in processes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_A_LONG_TIME)
        assert self._process.returncode == 0


class Running:
    """A process that was forked, and what it has printed."""

    def __init__(self, pid: int, output: int, after_start: float | None) -> None:
        self.pid = pid
        self.said = ""
        self.kill_at: float | None = None
        self.began: float | None = None
        self._after_start = after_start
        self._output = output
        self._life = os.pidfd_open(pid)
        self.files = [self._output, self._life]

    def look(self, ready: Sequence[int]) -> None:
        if self._output in ready:
            said = os.read(self._output, 65536)
            self.said += said.decode()
            if not said:
                self._close(self._output)
            elif self.began is None:
                self.began = time.monotonic()
                if self._after_start is not None:
                    self.kill_at = self.began + self._after_start
        if self._life in ready:
            self.kill_at = None  # its id is not given to another before it is waited for, and yet
            self._close(self._life)

    def _close(self, file: int) -> None:
        os.close(file)
        self.files.remove(file)


@dataclass
class Account:
    """What a campaign did.

    Attributes:
        kills: how many, by how the moment was chosen.
        whole_runs: came to their end before their moment.
        rows: commands in the source, in the end.
        comparisons: how often all was compared.
        start: seconds until a run begins to work.
        length: seconds that it works.
        calls: how many calls it makes while it works.
        copied: how often the processes of a round had copied nothing, a part, or all of what was new.
        seconds: how long it all took.
    """

    kills: Counter[str] = field(default_factory=Counter)
    whole_runs: int = 0
    rows: int = 0
    comparisons: int = 0
    start: float = 0.0
    length: float = 0.0
    calls: int = 0
    copied: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills.total()} kills {dict(self.kills)}, {self.whole_runs} whole runs, {self.rows} commands, "
            f"{self.comparisons} comparisons, {self.seconds:.1f} s; a run takes {self.start:.2f} + {self.length:.2f} s "
            f"and {self.calls:,} calls; rounds had copied: {dict(self.copied)}"
        )


class Campaign:
    """Kills runs of one source into one destination.

    Args:
        where: the destination.
        folder: for the source and whatever else is needed.
        seed: decides everything but how quick the machine is.
        key: signs the ledger; None: there is none.
        at_once: how many processes run at once.
        growth: about how many commands come before each round.
    """

    def __init__(
        self,
        where: Where,
        folder: Path,
        seed: str,
        *,
        key: Path | None = None,
        at_once: int = 1,
        growth: int = 150,
    ) -> None:
        self.account = Account()
        self._where = where
        self._random = Random(seed)  # noqa: S311 - the same every time
        self._key = key
        self._at_once = at_once
        self._growth = growth
        self._folder = folder
        self._file = folder / "source.db"
        self._source = f"sqlite:///{self._file}"
        create_sqlite(self._file, "C")
        self._rows = sample_commands(1_000_000, ties=7, seed=seed, payload=300)
        open_store(where.url, create=True).close()

    def run(self, kills: int, *, compare_every: int = 10) -> Account:
        """Kill so many times, compare now and then and in the end."""
        began = time.monotonic()
        with Warm(self._where.scheme, self._folder) as warm:
            self._measure(warm)
            compared = 0
            while self.account.kills.total() < kills:
                self._grow(self._random.randrange(self._growth))
                self._round(warm)
                if self.account.kills.total() // compare_every > compared:
                    compared = self.account.kills.total() // compare_every
                    self._compare(warm)
            self._compare(warm)
        self.account.seconds = time.monotonic() - began
        return self.account

    def _measure(self, warm: Warm) -> None:
        """How long a run takes, and how many calls it makes; not the first one, which makes what is made once."""
        for calls in (None, None, 10**12):
            self._grow(self._growth)
            began = time.monotonic()
            process, _ = self._finish(warm, calls=calls)
            assert process.began is not None
            if calls is None:
                self.account.start, self.account.length = process.began - began, time.monotonic() - process.began
        self.account.calls = int(process.said.rpartition("calls: ")[2])

    def _grow(self, count: int) -> None:
        self.account.rows += insert_sqlite(self._file, islice(self._rows, count))

    def _arguments(self) -> list[str]:
        random = self._random
        arguments = ["sync", self._source, self._where.url, "--batch-size", str(random.choice([5, 11, 23, 47, 1000]))]
        if random.random() < 0.5:
            arguments += ["--concurrency", "1"]
        if self._key is not None:
            arguments += ["--signing-key", str(self._key)]
        return arguments

    def _round(self, warm: Warm) -> None:
        """Start processes, and kill each at a moment of its own, unless it comes to its end before."""
        account, before = self.account, len(self._where.uuids())
        processes: list[Running] = []
        how: list[str] = []
        for _ in range(self._at_once):
            how.append(self._random.choice(["call", "call", "call", "work", "work", "work", "any moment"]))
            share = self._random.uniform(0, 1.05)
            moment: dict[str, Any] = {
                "call": {"calls": int(share * account.calls) + 1},
                # Several at once are in each other's way, so each takes longer.
                "work": {"after_start": share * account.length * self._at_once},
                "any moment": {"at_once": share * (account.start + account.length)},
            }[how[-1]]
            arguments = self._arguments()
            # Seldom, as it puts right what others left out.
            if self._at_once > 1 and self._random.random() < 0.03:
                arguments.append("--no-resume-from-dest")
            processes.append(warm.start(arguments, self._where.environment, **moment))
        for process, code, kind in zip(processes, warm.finish(*processes), how, strict=True):
            if code == _KILLED:
                account.kills[kind] += 1
            else:
                # Runs that overlap may be overtaken by a new checkpoint (--no-resume-from-dest), and say so.
                assert code == 0 or (self._at_once > 1 and _OVERTAKEN in process.said), f"{code}: {process.said}"
                account.whole_runs += 1
        new, there = account.rows - before, len(self._where.uuids()) - before
        account.copied["nothing" if not there else "all" if there == new else "a part"] += 1

    def _finish(self, warm: Warm, *, calls: int | None = None) -> tuple[Running, dict[str, Any]]:
        """A run that nobody kills, and its report."""
        process = warm.start([*self._arguments(), "--json"], self._where.environment, calls=calls)
        [code] = warm.finish(process)
        assert code == 0, f"{code}: {process.said}"
        # Other lines stand around it, as stderr goes to the same file.
        report, _ = json.JSONDecoder().raw_decode(process.said[process.said.index("{") :])
        assert report["complete"]
        assert report["conflicts"] == report["failed"] == 0, report
        return process, report

    # What must be so whenever a run has come to its end

    def _compare(self, warm: Warm) -> None:
        before = len(self._where.uuids())
        _, report = self._finish(warm)
        # What a killed run had on its way may arrive after it was counted.
        assert report["copied"] <= self.account.rows - before
        _, again = self._finish(warm)
        assert (again["read"], again["copied"]) == (0, 0), again
        stored = self._where.uuids()
        assert len(stored) == len(set(stored)) == self.account.rows
        with open_store(self._source, read_only=True) as source, open_store(self._where.url, read_only=True) as copy:
            for here, there in zip(source.scan(), copy.scan(page_size=20_000), strict=True):
                assert here == there
            register = run(copy.core.backend.register_get(register_name(self._source, copy.core.query({}))))
            assert register is not None
            self._compare_checkpoint(Checkpoint.from_json(register.value))
            if self._key is not None:
                audit = verify_ledger(copy, [self._key.with_suffix(".pub").read_bytes()], patience=0)
                assert audit.clean, audit.findings[:5]
                assert audit.intact == self.account.rows
        self.account.comparisons += 1

    def _compare_checkpoint(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.by_sequence
        # Nothing was ever removed, so ids are numbers without a gap.
        assert (checkpoint.settled, checkpoint.window) == (self.account.rows, None)
        assert (checkpoint.pending, checkpoint.parked) == ((), ())
