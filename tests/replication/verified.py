"""Stores for the tests of a verification: lists that lag, rows that share a uuid; and what is true of two of them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

from commandstore import Command, CommandStore, CorruptRecord, codec
from commandstore.command import CommandQuery
from commandstore.contract import Row, Slice
from commandstore.memory import MemoryBackend

NOW = 2**62
LONG = b"x" * 500_000  # more than an item of DynamoDB holds


def command(number: int, **fields) -> Command:
    return Command(
        f"c{number:04}", 1_760_000_000_000_000_000 + number // 3, **({"data_bytes": b"%d" % number} | fields)
    )


SOURCE = [command(n, tenant_uuid=f"t{n % 3}") for n in range(40)] + [command(90, data_bytes=LONG)]
FINDINGS = {
    "c0003": "missing",
    "c0005": "altered",
    "c0011": "altered",
    "c0020": "altered",
    "c0090": "altered",
    "x0001": "extra",
    "c0017": "failed",
}
REASONS = {
    "c0003": "not in the destination",
    "c0005": "differs in data_bytes",
    "c0011": "differs in created_at, tenant_uuid",
    "c0020": "differs in created_at",
    "c0090": "differs in data_bytes",
    "x0001": "not in the source",
}


def spoil(destination: CommandStore) -> None:
    """Make one of each kind, but for a failed one."""
    destination.delete("c0003")
    destination.update(command(5, tenant_uuid="t2", data_bytes=b"other"))
    destination.update(Command("c0011", 7, tenant_uuid="other", data_bytes=b"11"))
    destination.update(Command("c0020", 1_760_000_000_000_000_099, tenant_uuid="t2", data_bytes=b"20"))
    destination.update(command(90, data_bytes=LONG[:-1] + b"y"))
    destination.create(Command("x0001", 1_760_000_000_000_000_004))


def new_url(kind, request, tmp_path, monkeypatch) -> str:
    """A URL for a new store of a kind; engines start when they are asked for."""
    name = uuid4().hex[:8]
    if kind == "memory":
        return f"memory://{name}"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/{name}.db"
    if kind == "firestore":
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("firestore_emulator").host)
        monkeypatch.setenv("CLOUDSDK_CONFIG", f"{tmp_path}/gcloud")
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        return f"firestore://verification/verify-{name}?shards=2"
    engine = request.getfixturevalue("ministack")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    region = engine.client_arguments["region_name"]
    return f"{kind}://verify-{name}?region={region}&endpoint_url={engine.endpoint}"


def holding(commands: Iterable[Command], backend: MemoryBackend | None = None) -> CommandStore:
    store = CommandStore(backend or MemoryBackend())
    store.init()
    store.create_many(commands)
    return store


class Lagging(MemoryBackend):
    """Its lists leave some commands out; asked by uuid, it has them all."""

    list_is_consistent = False

    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__()
        self.hidden = set(hidden)

    async def page(self, query, after, limit, *, payload=True):
        found = await super().page(query, after, limit, payload=payload)
        return Slice([row for row in found.rows if row.record.command_uuid not in self.hidden], found.next_key)


class Rows(MemoryBackend):
    """As comby's oldest tables: a uuid may stand in several rows, and a row without a time comes before all others.

    Args:
        rows: in order of arrival; those of whose commands the time is to be NULL are marked.
    """

    def __init__(self, rows: Iterable[tuple[Command, bool]]) -> None:
        super().__init__()
        self.rows = [(codec.encode(command), timeless) for command, timeless in rows]

    async def fetch(self, uuids):
        return {record.command_uuid: record for record, _ in reversed(self.rows) if record.command_uuid in uuids}

    async def page(self, query, after, limit, *, payload=True):  # noqa: ARG002
        ordered = sorted(
            ((not timeless, record.created_at, record.command_uuid, number), record)
            for number, (record, timeless) in enumerate(self.rows)
            if query.matches(record)
        )
        left = [Row(key, record) for key, record in ordered if after is None or key > after]
        return Slice(left[:limit], left[limit - 1].key if len(left) > limit else None)


def truth(source: CommandStore, destination: CommandStore, query: CommandQuery) -> dict[str, str]:
    """What is to be said of every uuid of the range, by comparing sets."""
    here = {command.command_uuid: command for command in source.scan()}
    there = {command.command_uuid: command for command in destination.scan()}
    said = {}
    for uuid in here.keys() | there.keys():
        one, other = here.get(uuid), there.get(uuid)
        if not any(command is not None and query.matches(command) for command in (one, other)):
            continue
        said[uuid] = "extra" if one is None else "missing" if other is None else "equal" if one == other else "altered"
    return {
        uuid: kind
        for uuid, kind in said.items()
        if kind not in {"missing", "extra"} or query.matches(here.get(uuid) or there[uuid])
    }


def told(report) -> dict[str, str]:
    """What a report says of every uuid that isn't equal; and that it adds up."""
    kinds = {finding.command_uuid: finding.kind.value for finding in report.findings}
    assert len(kinds) == len(report.findings), "a command is listed twice"
    for kind in ("missing", "extra", "altered", "failed"):
        assert getattr(report, kind) == list(kinds.values()).count(kind)
    assert report.compared == report.equal + report.missing + report.extra + report.altered + report.failed
    return kinds


def actions(report) -> dict[str, str]:
    told(report)
    return {finding.command_uuid: finding.action for finding in report.findings}


def all_of(store: CommandStore) -> list[Command]:
    return list(store.scan())


class Moving(MemoryBackend):
    """A store in which something happens before the so-many-th answer by uuid."""

    def __init__(self, at: int = 0, then=lambda: None) -> None:
        super().__init__()
        self.fetches_left = at
        self.then = then

    async def fetch(self, uuids):
        self.fetches_left -= 1
        if self.fetches_left == 0:
            self.then()
        return await super().fetch(uuids)


class Torn(MemoryBackend):
    """Some of its commands can't be read."""

    def __init__(self, *torn: str, named: bool = True) -> None:
        super().__init__()
        self.torn = torn
        self.named = named

    def _bad(self, uuid):
        return CorruptRecord("cut off", command_uuid=uuid if self.named else None, location="object 7")

    async def fetch(self, uuids):
        found = await super().fetch(uuids)
        return {uuid: self._bad(uuid) if uuid in self.torn else record for uuid, record in found.items()}

    async def page(self, query, after, limit, *, payload=True):
        found = await super().page(query, after, limit, payload=payload)
        bad = [(row, row.record.command_uuid) for row in found.rows]
        return Slice([Row(r.key, None, self._bad(u)) if u in self.torn else r for r, u in bad], found.next_key)

    async def replace(self, record, write_id):
        self.torn = tuple(uuid for uuid in self.torn if uuid != record.command_uuid)
        return await super().replace(record, write_id)
