"""Commands as comby's Go code writes them: deterministic, and quick to make by the million."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Literal, NamedTuple

__all__ = ["CombyRow", "PayloadSize", "sample_commands", "sample_tenants"]

PayloadSize = int | Literal["mixed"]

_START = 1_735_689_600_000_000_000  # 2025-01-01T00:00:00Z in nanoseconds
_LONGEST_GAP = 2_000_000_000
_SESSIONS = 16
_WORKSPACES = 2
_VERSION_4 = "89ab"
# Of these many commands, one has a payload of that size. The first few commands have one of each.
_MIXED_SIZES = ((50_000, 7, 2_000_000), (10_000, 3, 500_000), (1_000, 11, 20_000), (50, 5, 2), (5, 2, 60))
_DEFAULT_SIZE = 600
_SHORTEST = 60  # an object with a uuid in it, and a little more
_KINDS = (
    ("Account", "AccountCommandRegister"),
    ("Account", "AccountCommandLogin"),
    ("Tenant", "TenantCommandCreate"),
    ("Identity", "IdentityCommandAddGroup"),
    ("Workspace", "WorkspaceCommandAddMember"),
    ("Asset", "AssetCommandUpload"),
    ("Order", "OrderCommandPlace"),
    ("Order", "OrderCommandMarkPaid"),
)
_WORDS = ("harbour", "Grüße", "ledger", "naïve", "漢字", "quarter", "\\u003cb\\u003e", "invoice", "🚚", "tab\\there")


class CombyRow(NamedTuple):
    """A row of the table ``commands`` in the order of its columns in generation C, without ``id``."""

    instance_id: int
    uuid: str
    tenant_uuid: str
    workspace_uuid: str
    domain: str
    created_at: int
    data_type: str
    data_bytes: bytes
    req_ctx: str


def _uuid4(random: Random) -> str:
    text = f"{random.getrandbits(128):032x}"
    variant = _VERSION_4[random.getrandbits(2)]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def sample_tenants(count: int = 3, *, seed: int = 0) -> list[str]:
    """The tenants of `sample_commands` with the same arguments."""
    random = Random(f"tenants {seed}")  # noqa: S311 - test data, to be the same every time
    return [_uuid4(random) for _ in range(count)]


def sample_commands(
    count: int, *, tenants: int = 3, seed: int = 0, ties: int = 0, payload: PayloadSize = _DEFAULT_SIZE
) -> Iterator[CombyRow]:
    """Commands in the order of their time, the same ones for the same arguments.

    Args:
        count: how many.
        tenants: over how many tenants they are spread.
        seed: another seed gives other commands, and other tenants.
        ties: the first this many share one timestamp, and so does one in ten of the following stretches of that length.
            0: all timestamps differ.
        payload: how many bytes ``data_bytes`` may take: JSON of at most that length, from 300 on close to it, and
            ``{}`` below 60. Or ``"mixed"``: mostly 600, a few from 2 bytes to 2 MB, one of each size among the first
            twelve commands.
    """
    random = Random(f"commands {seed}")  # noqa: S311 - test data, to be the same every time
    people = [_Tenant(random, uuid) for uuid in sample_tenants(tenants, seed=seed)]
    filler = " ".join(random.choice(_WORDS) for _ in range(2_000))
    moment = _START
    for number in range(count):
        if not (ties and number % ties and number // ties % 10 == 0):
            moment += 1 + random.getrandbits(31) % _LONGEST_GAP
        tenant = people[random.getrandbits(16) % tenants]
        kind = random.getrandbits(8)
        domain, data_type = _KINDS[kind % len(_KINDS)]
        aggregate = _uuid4(random)
        yield CombyRow(
            instance_id=1 + kind % 2,
            uuid=_uuid4(random),
            tenant_uuid=tenant.uuid,
            # Half of the commands concern no workspace, and one in eight was made by the system, without a context.
            workspace_uuid="" if kind & 1 else tenant.workspaces[kind % _WORKSPACES],
            domain=domain,
            created_at=moment,
            data_type=data_type,
            data_bytes=_payload(random, aggregate, filler, _size(number, payload)),
            req_ctx="" if kind & 7 == 7 else tenant.context(random, aggregate, kind),
        )


class _Tenant:
    """Those who send commands for one tenant."""

    def __init__(self, random: Random, uuid: str) -> None:
        self.uuid = uuid
        self.workspaces = [_uuid4(random) for _ in range(_WORKSPACES)]
        # What never changes within a session is written once: this is the larger part of a context.
        self._senders = [
            f'{{"senderTenantUuid":"{uuid}","senderIdentityUuid":"{_uuid4(random)}",'
            f'"senderAccountUuid":"{_uuid4(random)}","senderSessionUuid":"{_uuid4(random)}",'
            f'"targetTenantUuid":"{uuid}",'
            for _ in range(_SESSIONS)
        ]

    def context(self, random: Random, aggregate: str, kind: int) -> str:
        """The JSON that Go writes for a RequestContext: no spaces, and <, > and & escaped."""
        sender = self._senders[random.getrandbits(16) % _SESSIONS]
        workspace = "" if kind & 1 else self.workspaces[kind % _WORKSPACES]
        wait = "true" if kind & 4 else "false"
        # Go writes an absent map as null.
        attributes = '{"client":"web \\u0026 app","retries":2,"ratio":3.14159}' if kind & 2 else "null"
        return (
            f'{sender}"targetWorkspaceUuid":"{workspace}","targetAggregateUuid":"{aggregate}",'
            f'"targetAggregateVersion":{kind},"executeTimeout":30000000000,"executeWaitToFinish":{wait},'
            f'"traceId":"{random.getrandbits(128):032x}","attributes":{attributes},"metaData":null,"targetIdentityUuid":""}}'
        )


def _size(number: int, payload: PayloadSize) -> int:
    if payload != "mixed":
        return payload
    return next((size for every, place, size in _MIXED_SIZES if number % every == place), _DEFAULT_SIZE)


def _payload(random: Random, aggregate: str, filler: str, size: int) -> bytes:
    if size < _SHORTEST:
        return b"{}"
    amount = random.getrandbits(20)
    start = random.getrandbits(10)
    head = (
        f'{{"aggregateUuid":"{aggregate}","items":[{{"sku":"A-{amount}","count":{amount % 97},"price":{amount / 100}}},'
        f'{{"sku":"B","tags":["x","y",null],"nested":{{"deep":[1,2,[3,{{"pi":3.14159}}]]}}}}],"paid":true,"note":"'
    ).encode()
    room = size - len(head) - 2
    if room < 0:
        return f'{{"aggregateUuid":"{aggregate}"}}'.encode()
    text = (filler * (1 + (start + room) // len(filler)))[start : start + room]
    note = text.encode()[:room].decode("utf-8", "ignore").rpartition(" ")[0].encode()
    return head + note + b'"}'
