"""Updates and deletions: recorded before they are done, and looked after until ledger and store say the same.

Several may change one command at once, and the order of their entries need not be that of what they did. So each looks,
once it is done, whether another entry speaks of its command; then what the store holds is recorded. Whoever comes last
sees all others.
"""

from __future__ import annotations

from commandstore.codec import Record
from commandstore.errors import CommandStoreError
from commandstore.ledger.entry import Kind
from commandstore.ledger.leaves import Leaf, Op, leaf_of
from commandstore.ledger.log import Ledger

__all__ = ["announce", "look_after"]


async def announce(ledger: Ledger, kind: Kind, stored: Record | CommandStoreError, leaf: Leaf) -> int:
    """Record what is about to be done to a command.

    Args:
        ledger: the store's.
        kind: of the entry.
        stored: the command as it is stored now. Where no entry knows it, as of a batch that is not recorded yet, it is
            recorded first: or its creation would come behind this.
        leaf: what is about to be done.

    Returns:
        The number of the entry.
    """
    since = ledger.newest
    if isinstance(stored, Record) and stored.command_uuid not in await ledger.live([stored.position]):
        await ledger.append(kind, [leaf_of(Op.CREATE, stored)], since=since)
    [entry] = await ledger.append(kind, [leaf])
    return entry.sequence


async def look_after(ledger: Ledger, kind: Kind, announced: Leaf, sequence: int, *, done: bool) -> None:
    """See that the ledger's last word of a command is what the store holds, after it was changed.

    Args:
        ledger: the store's.
        kind: of what is recorded here.
        announced: what was to be done.
        sequence: of the entry that says so.
        done: whether it was.
    """
    uuid = announced.command_uuid
    said, since, own = announced, sequence, {sequence}
    while True:
        await ledger.begin()
        newest = ledger.newest
        words = await ledger.words({uuid}, since)
        if done and all(number in own for number, _ in words):
            return
        if words:
            said = words[-1][1]
        stored = (await ledger.backend.fetch([uuid])).get(uuid)
        if isinstance(stored, CommandStoreError):
            return  # what can't be read can't be recorded; an audit names it
        if stored is None:
            said_so, now = said.op == Op.DELETE, announced._replace(op=Op.DELETE)
        else:
            now = leaf_of(Op.UPDATE, stored)
            said_so = said.op != Op.DELETE and said.digest == now.digest
        if said_so:
            return
        [entry] = await ledger.append(kind, [now])
        said, since, done = now, newest, True
        own.add(entry.sequence)
