"""What the ledger says of each command, beside what the store holds: in a temporary file, so that memory stays flat.

Both are only ever appended to, and compared at the end by one pass over both in the order of uuids. Looking up each
command where it is met would read the file all over the place; sorting is many times quicker, and SQLite sorts in
portions that fit into memory.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import orjson

from commandstore.audit.report import AuditKind
from commandstore.errors import StoreUnavailable
from commandstore.ledger.leaves import Leaf, Op

__all__ = ["MOST_TENANTS", "Book", "Case", "Seen", "State", "Verdict", "judge"]


class State(NamedTuple):
    """What the ledger says of one command in the end.

    Attributes:
        op: what was done last; 0: no entry that fits says anything.
        digest: of the command after that (of a deleted one, before it).
        created_at: of the command.
        sequence: of the entry that says so, or (with op 0) of one that says so and does not fit itself.
        leaf: the number of the leaf in that entry, from 0.
        before: what its digests were earlier, the last few.
        twice: the entry that records it as created, with other content, while it was there; None: none does.
        idle: what creations and deletions that changed nothing are counted as, to be added where all are counted.
    """

    op: int
    digest: bytes
    created_at: int
    sequence: int
    leaf: int
    before: tuple[bytes, ...] = ()
    twice: int | None = None
    idle: int = 0

    @property
    def live(self) -> bool:
        """Whether the command should be in the store."""
        return self.op in {Op.CREATE, Op.UPDATE}


class Seen(NamedTuple):
    """What the store holds of one command.

    Attributes:
        digest: as a leaf would have it; None: it can't be read.
        created_at: as it is stored.
        problem: what is wrong with it by itself, or None.
        other: ``created_at`` of a second row of it that was met; None: there was none.
        tenant: whose it is; None: that is not known, or not kept.
        hidden: the lists of its tenant did not show it.
    """

    digest: bytes | None
    created_at: int | None
    problem: str | None = None
    other: int | None = None
    tenant: str | None = None
    hidden: bool = False


class Case(NamedTuple):
    """A command, what the ledger says of it, and what the store holds; None for nothing."""

    command_uuid: str
    state: State | None
    seen: Seen | None


class Verdict(NamedTuple):
    """What is wrong with a command, and why."""

    kind: AuditKind
    reason: str


def judge(state: State | None, seen: Seen | None) -> Verdict | None:  # noqa: PLR0911 - one line for each case
    """Whether the store holds what the ledger says; None when it does."""
    if seen is None:
        if state is None or not state.live:
            return None
        return Verdict(AuditKind.DROPPED, f"entry {state.sequence} records it, and the store does not have it")
    if seen.digest is None:
        return Verdict(AuditKind.UNREADABLE, seen.problem or "it can't be read")
    if state is None:
        return Verdict(AuditKind.ADDED, "no entry records it")
    if not state.op:
        return Verdict(AuditKind.ADDED, f"no entry records it but entry {state.sequence}, which does not fit itself")
    if not state.live:
        if seen.digest == state.digest:
            reason = f"entry {state.sequence} records its deletion, which was not carried out, or was undone"
            return Verdict(AuditKind.UNFINISHED, reason)
        return Verdict(
            AuditKind.ADDED, f"entry {state.sequence} records its deletion, and it is there with new content"
        )
    if state.twice is not None:
        return Verdict(AuditKind.ALTERED, f"entry {state.twice} records it as created anew while it was there")
    if seen.digest == state.digest:
        return None if seen.problem is None else Verdict(AuditKind.ALTERED, seen.problem)
    if seen.digest in state.before:
        reason = f"it is as it was before the update that entry {state.sequence} records: not carried out, or undone"
        return Verdict(AuditKind.UNFINISHED, reason)
    return Verdict(AuditKind.ALTERED, f"it is not what entry {state.sequence} records")


_REMEMBERED = 8
_ROWS_KEPT = 2  # of one uuid
MOST_TENANTS = 10_000
"""Of so many tenants it is kept which command is whose: they are held in memory."""
_TABLES = (
    "CREATE TABLE recorded (uuid BLOB, sequence INTEGER, leaf INTEGER, op INTEGER, digest BLOB, created_at INTEGER)",
    "CREATE TABLE late (uuid BLOB, sequence INTEGER, leaf INTEGER, op INTEGER, digest BLOB, created_at INTEGER)",
    "CREATE INDEX late_uuid ON late (uuid)",
    "CREATE TABLE stored (uuid BLOB, digest BLOB, created_at INTEGER, problem TEXT, tenant INTEGER)",
    "CREATE TABLE listed (uuid BLOB, tenant INTEGER)",
    "CREATE TABLE open (number INTEGER PRIMARY KEY, uuid BLOB, created_at INTEGER, other INTEGER, hidden, state BLOB)",
)
_BY_UUID = (
    "SELECT uuid, tenant, digest, created_at, problem, 0 FROM stored "
    "UNION ALL SELECT uuid, tenant, NULL, NULL, NULL, 1 FROM listed ORDER BY 1"
)
_INDEX = "CREATE INDEX IF NOT EXISTS recorded_uuid ON recorded (uuid)"


class Book:
    """The temporary file. Its methods block; several at once must not run."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a temporary file without a name, which it removes when it is closed.
        with _room():
            self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-32768"):
                self._file.execute(f"PRAGMA {pragma}")
            for table in _TABLES:
                self._file.execute(table)
        self._into = "recorded"
        self._tenants: dict[str, int] = {}
        self._too_many = False
        self._met_of: Counter[int] = Counter()
        self._walked: set[int] = set()

    def close(self) -> None:
        """Remove it."""
        self._file.close()

    def _add(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with _room():
            self._file.execute("BEGIN")
            self._file.executemany(statement, rows)
            self._file.execute("COMMIT")

    # What the ledger says

    def record(self, sequence: int, leaves: Iterable[Leaf], *, believed: bool) -> None:
        """Note what an entry says.

        Args:
            sequence: of the entry.
            leaves: of the entry.
            believed: False: the entry doesn't fit; it is kept only to be named.
        """
        self._add(
            f"INSERT INTO {self._into} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - a name from here
            (
                (leaf.command_uuid.encode(), sequence, index, leaf.op if believed else 0, leaf.digest, leaf.created_at)
                for index, leaf in enumerate(leaves)
            ),
        )

    def look_up(self, uuids: Iterable[str]) -> dict[str, State]:
        """What the ledger says of these; those of which it says nothing are left out."""
        found = {}
        with _room():
            self._file.execute(_INDEX)
            for uuid in uuids:
                rows = self._file.execute(
                    "SELECT sequence, leaf, op, digest, created_at FROM recorded WHERE uuid = ? ORDER BY 1, 2",
                    (uuid.encode(),),
                ).fetchall()
                if (state := _replayed(rows)) is not None:
                    found[uuid] = state
        return found

    def first(self) -> dict[str, Leaf]:
        """What the entries first say of each command."""
        sql = "SELECT op, uuid, digest, created_at FROM recorded WHERE op <> 0 ORDER BY uuid, sequence, leaf"
        rows = (Leaf(op, uuid.decode(), digest, created_at) for op, uuid, digest, created_at in self._rows(sql))
        return {uuid: next(leaves) for uuid, leaves in groupby(rows, lambda leaf: leaf.command_uuid)}

    def _states(self) -> Iterator[tuple[bytes, State]]:
        rows = self._rows("SELECT uuid, sequence, leaf, op, digest, created_at FROM recorded ORDER BY 1, 2, 3")
        for uuid, leaves in groupby(rows, lambda row: row[0]):
            state = _replayed(row[1:] for row in leaves)
            assert state is not None  # noqa: S101 - a group has rows
            yield uuid, state

    # What the store holds

    def meet(self, rows: Iterable[tuple[str, Seen]]) -> None:
        """Note what the store holds."""
        self._add(
            "INSERT INTO stored VALUES (?, ?, ?, ?, ?)",
            (
                (uuid.encode(), seen.digest, seen.created_at, seen.problem, self._number(seen.tenant))
                for uuid, seen in rows
            ),
        )

    def _number(self, tenant: str | None) -> int | None:
        if tenant is None:
            return None
        number = self._tenants.get(tenant)
        if number is None:
            if len(self._tenants) >= MOST_TENANTS:
                self._too_many = True
                return None
            number = self._tenants[tenant] = len(self._tenants)
        self._met_of[number] += 1
        return number

    def tenants(self) -> dict[str, int] | None:
        """How many commands of each tenant were met; None where there are too many tenants to tell."""
        return None if self._too_many else {tenant: self._met_of[number] for tenant, number in self._tenants.items()}

    def list_of(self, tenant: str, uuids: Iterable[str]) -> None:
        """Note what the lists of a tenant show. Those of its commands that it is never told of are hidden."""
        number = self._tenants[tenant]
        self._walked.add(number)
        self._add("INSERT INTO listed VALUES (?, ?)", ((uuid.encode(), number) for uuid in uuids))

    def _met(self) -> Iterator[tuple[bytes, Seen]]:
        for uuid, group in groupby(self._rows(_BY_UUID), lambda row: row[0]):
            met: list[Any] = []
            listed: set[int] = set()
            for _, tenant, *row, is_listed in group:
                if is_listed:
                    listed.add(tenant)
                elif len(met) < _ROWS_KEPT:
                    met.append((tenant, row))
            if not met:  # it came after the walk
                continue
            hidden = any(tenant in self._walked and tenant not in listed for tenant, _ in met)
            other = None if len(met) == 1 else met[1][1][1] or 0
            digest, created_at, problem = met[0][1]
            yield uuid, Seen(digest, created_at, problem, other, hidden=hidden)

    # Both

    def cases(self) -> Iterator[Case]:
        """Every command of either, in the order of uuids. What is recorded from now on is for :meth:`now` only."""
        self._into = "late"
        left, right = self._states(), self._met()
        state, seen = next(left, None), next(right, None)
        while state is not None or seen is not None:
            if seen is None or (state is not None and state[0] < seen[0]):
                assert state is not None  # noqa: S101 - the loop's condition
                yield Case(state[0].decode(), state[1], None)
                state = next(left, None)
            elif state is None or seen[0] < state[0]:
                yield Case(seen[0].decode(), None, seen[1])
                seen = next(right, None)
            else:
                yield Case(seen[0].decode(), state[1], seen[1])
                state, seen = next(left, None), next(right, None)

    # What is looked at once more

    def put_aside(self, cases: Iterable[Case]) -> None:
        """Keep commands that are to be looked at once more."""
        self._add(
            "INSERT INTO open (uuid, created_at, other, hidden, state) VALUES (?, ?, ?, ?, ?)",
            (
                (uuid.encode(), seen and seen.created_at, seen and seen.other, bool(seen and seen.hidden), _kept(state))
                for uuid, state, seen in cases
            ),
        )

    def aside(self, after: int, limit: int) -> list[tuple[int, Case]]:
        """The next of them by number, with what the ledger says of them by now, and when they were seen."""
        sql = "SELECT number, uuid, created_at, other, hidden, state FROM open WHERE number > ? ORDER BY 1 LIMIT ?"
        with _room():
            return [
                (
                    number,
                    Case(
                        uuid.decode(),
                        self._by_now(uuid, _restored(kept)),
                        Seen(None, created_at, other=other, hidden=bool(hidden)),
                    ),
                )
                for number, uuid, created_at, other, hidden, kept in self._file.execute(sql, (after, limit)).fetchall()
            ]

    def _by_now(self, uuid: bytes, state: State | None) -> State | None:
        rows = self._file.execute(
            "SELECT sequence, leaf, op, digest, created_at FROM late WHERE uuid = ? ORDER BY 1, 2", (uuid,)
        ).fetchall()
        return _replayed(rows, state) if rows else state

    def settle(self, numbers: Iterable[int]) -> None:
        """Forget some of them."""
        self._add("DELETE FROM open WHERE number = ?", ((number,) for number in numbers))

    def sort_aside(self) -> None:
        """Number them in the total order."""
        with _room():
            self._file.execute("CREATE TABLE sorted AS SELECT * FROM open ORDER BY created_at, uuid")
            self._file.execute("DELETE FROM open")
            self._file.execute(
                "INSERT INTO open (uuid, created_at, other, hidden, state) "
                "SELECT uuid, created_at, other, hidden, state FROM sorted ORDER BY rowid"
            )
            self._file.execute("DROP TABLE sorted")

    def _rows(self, sql: str) -> Iterator[Any]:
        with _room():
            cursor = self._file.execute(sql)
        while True:
            with _room():
                rows = cursor.fetchmany(1000)
            if not rows:
                return
            yield from rows


def _replayed(rows: Iterable[tuple[int, int, int, bytes, int]], state: State | None = None) -> State | None:
    """The last of what was recorded of one command, in the order of the ledger."""
    claimed = None
    if state is not None and not state.op:
        state, claimed = None, state
    for sequence, leaf, op, digest, created_at in rows:
        if not op:
            claimed = State(0, digest, created_at, sequence, leaf)
        else:
            new = State(op, digest, created_at, sequence, leaf)
            state = new if state is None else _after(state, new)
    return state or claimed


def _after(state: State, new: State) -> State:
    """A command's state after one more leaf."""
    before: tuple[bytes, ...] = ()
    twice, idle = state.twice, state.idle
    if new.op == Op.UPDATE:
        before = (*state.before, state.digest)[-_REMEMBERED:]
        idle += not state.live
        # What was created anew is replaced by what a signed entry says.
        twice = twice if new.digest == state.digest else None
    elif new.op == Op.CREATE and state.live:
        idle -= 1
        twice = new.sequence if new.digest != state.digest else twice
    elif new.op == Op.DELETE:
        twice = None
        idle += not state.live
    return new._replace(before=before, twice=twice, idle=idle)


def _kept(state: State | None) -> bytes | None:
    if state is None:
        return None
    plain = state._replace(digest=state.digest.hex(), before=[digest.hex() for digest in state.before])  # type: ignore[arg-type]
    return orjson.dumps(list(plain))


def _restored(kept: bytes | None) -> State | None:
    if kept is None:
        return None
    state = State(*orjson.loads(kept))
    return state._replace(
        digest=bytes.fromhex(str(state.digest)), before=tuple(bytes.fromhex(str(digest)) for digest in state.before)
    )


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"the temporary file of the audit failed ({getattr(error, 'sqlite_errorname', 'unknown')}); "
            "is there room in the directory for temporary files (SQLITE_TMPDIR, TMPDIR)?"
        ) from error
