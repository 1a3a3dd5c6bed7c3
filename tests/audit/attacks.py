"""What an attacker does to a store and its ledger, and what an audit must say of it: no less, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from audit.scene import ALL, HEAD, HISTORY, MALLORY, SIGNER, Scene, a_command, forged, leaf_of
from commandstore.codec import encode
from commandstore.ledger.reading import entry_name

Found = set[tuple[str, str | int | None]]


@dataclass(frozen=True)
class Attack:
    """What is done; what a full audit names, and what one from a checkpoint before the attack names.

    Attributes:
        everywhere: tried on every engine; the others in memory and on SQLite.
    """

    do: Callable[[Scene], None]
    full: Found
    from_checkpoint: Found
    everywhere: bool

    @property
    def name(self) -> str:
        return self.do.__name__


ATTACKS: list[Attack] = []


def attack(*full: Any, since: Found | None = None, everywhere: bool = False) -> Any:
    """Found by a full audit; ``since``: by one from a checkpoint of before the attack."""

    def register(do: Callable[[Scene], None]) -> Callable[[Scene], None]:
        ATTACKS.append(Attack(do, set(full), since or set(), everywhere))
        return do

    return register


COUNTED: Found = {("count", 5)}

# The commands


@attack(("altered", "b1"), everywhere=True)
def alter_one_byte(it: Scene) -> None:
    record = it.record("b1")
    it.replace(forged(record, data=b"Q" + record.data[1:]))


@attack(("altered", "b1"))
def alter_one_byte_of_the_context(it: Scene) -> None:
    record = it.record("b1")
    it.replace(forged(record, req_ctx=record.req_ctx.replace("session of", "session or")))


@attack(("altered", "a5"))
def alter_what_was_updated_before(it: Scene) -> None:
    it.replace(forged(it.record("a5"), tenant_uuid="u"))


@attack(("dropped", "a2"), since=COUNTED, everywhere=True)
def drop_one(it: Scene) -> None:
    it.remove("a2")


@attack(("added", "new"), since=COUNTED, everywhere=True)
def add_one(it: Scene) -> None:
    it.insert(encode(a_command("new", 12)))


@attack(("altered", "a1"), ("altered", "b2"), everywhere=True)
def swap_two_payloads(it: Scene) -> None:
    one, other = it.record("a1"), it.record("b2")
    it.replace(forged(one, data=other.data))
    it.replace(forged(other, data=one.data))


@attack(("altered", "a1"), ("altered", "a2"), everywhere=True)
def reorder_two(it: Scene) -> None:
    one, other = it.record("a1"), it.record("a2")
    it.replace(forged(one, created_at=other.created_at))
    it.replace(forged(other, created_at=one.created_at))


@attack(("dropped", "a1"), ("added", "new"))
def drop_one_and_add_another(it: Scene) -> None:
    """The count stays what it was: only a full audit finds it."""
    it.remove("a1")
    it.insert(encode(a_command("new", 11)))


@attack(("dropped", "a1"), ("added", "A1"))
def give_one_another_uuid(it: Scene) -> None:
    record = it.record("a1")
    it.remove("a1")
    it.insert(forged(record, command_uuid="A1"))


@attack(("unfinished", "a5"))
def undo_an_update(it: Scene) -> None:
    it.replace(next(record for record in HISTORY[1].records if record.command_uuid == "a5"))


@attack(("unfinished", "a4"), since=COUNTED)
def undo_a_deletion(it: Scene) -> None:
    it.insert(next(record for record in HISTORY[1].records if record.command_uuid == "a4"))


@attack(("added", "a4"), since=COUNTED)
def bring_back_another(it: Scene) -> None:
    it.insert(encode(a_command("a4", 14, b"not what was deleted")))


# The ledger


@attack(("entry", 2), *(("added", f"b{n}") for n in range(4)), everywhere=True)
def alter_one_byte_of_an_entry(it: Scene) -> None:
    it.set_entry(2, it.raw(2).replace(b"create", b"repair"))


@attack(("entry", 2), *(("added", f"b{n}") for n in range(4)))
def alter_one_byte_of_an_entry_into_nonsense(it: Scene) -> None:
    it.set_entry(2, it.raw(2)[:-20])


@attack(("entry", 2), *(("added", f"b{n}") for n in range(4)))
def alter_one_byte_of_a_body(it: Scene) -> None:
    name = f"ledger/leaves/{it.entry(2).root}/0"
    body = HISTORY[-1].registers[name]
    it.register(name, body[:20] + bytes([body[20] ^ 1]) + body[21:])


@attack(("entry", 2), *(("added", f"b{n}") for n in range(4)))
def drop_a_body(it: Scene) -> None:
    it.register(f"ledger/leaves/{it.entry(2).root}/0", None)


# An entry, and the leaves of the deletion of a4, which is not believed. What else is wrong is named all the same.
@attack(
    *(("entry", 2), ("entry", 4)),
    *(("added", f"b{n}") for n in range(4)),
    *(("dropped", "a4"), ("altered", "d1")),
    everywhere=True,
)
def damage_registers(it: Scene) -> None:
    body = f"ledger/leaves/{it.entry(4).root}/0"
    it.damage(entry_name(2))
    it.damage(body)
    it.replace(forged(it.record("d1"), data=b"altered"))


@attack(("entry", 1), ("altered", "d1"), since={("entry", 6)})
def damage_the_head(it: Scene) -> None:
    it.damage(HEAD)
    it.replace(forged(it.record("d1"), data=b"altered"))


@attack(("entry", 3), ("altered", "a5"))
def drop_an_entry(it: Scene) -> None:
    it.set_entry(3, None)


@attack(("entry", 1), ("entry", 2))
def reorder_two_entries(it: Scene) -> None:
    one, other = it.raw(1), it.raw(2)
    it.set_entry(1, other)
    it.set_entry(2, one)


@attack(("entry", 6), since={("entry", 6)})
def add_a_copy_of_an_entry(it: Scene) -> None:
    it.set_entry(6, it.raw(3))
    it.point_to(6)


@attack(
    ("entry", 5),
    ("added", "d0"),
    ("added", "d1"),
    since={("entry", 5), ("added", "d0"), ("added", "d1")},
    everywhere=True,
)
def truncate(it: Scene) -> None:
    it.set_entry(5, None)


@attack(("added", "d0"), ("added", "d1"), since={("entry", 5), ("added", "d0"), ("added", "d1")})
def truncate_and_set_the_head_back(it: Scene) -> None:
    it.set_entry(5, None)
    it.point_to(4)


@attack(
    ("entry", 1),
    *(("added", uuid) for uuid in ALL),
    since={("entry", 1), *(("added", uuid) for uuid in ALL)},
)
def remove_the_ledger(it: Scene) -> None:
    for name in HISTORY[-1].registers:
        it.register(name, None)


@attack(
    *(("entry", n) for n in range(1, 6)),
    *(("added", uuid) for uuid in ALL),
    since={*(("entry", n) for n in range(1, 6)), *(("added", uuid) for uuid in ALL)},
    everywhere=True,
)
def sign_again_with_another_key(it: Scene) -> None:
    for sequence in range(1, 6):
        it.rewrite(sequence, it.leaves(sequence), MALLORY)


@attack(("entry", 6), ("added", "new"), since={("entry", 6), ("added", "new")})
def add_one_with_an_entry_of_another_key(it: Scene) -> None:
    record = encode(a_command("new", 40))
    it.insert(record)
    it.rewrite(6, [leaf_of(record)], MALLORY, commands=12)
    it.point_to(6)


@attack(("entry", 2), *(("added", f"b{n}") for n in range(4)))
def alter_one_with_its_leaf_and_root(it: Scene) -> None:
    """All that can be made to fit without the key."""
    record = forged(it.record("b1"), data=b"altered")
    it.replace(record)
    leaves = [leaf_of(record) if leaf.command_uuid == "b1" else leaf for leaf in it.leaves(2)]
    signature = it.entry(2).signature
    it.rewrite(2, leaves, MALLORY)
    statement = it.entry(2).statement.replace(MALLORY.key_id, SIGNER.key_id)
    it.set_entry(2, replace(it.entry(2), statement=statement, signature=signature))


# By an operator who has the key


@attack(("entry", 3), everywhere=True)
def fork_in_the_middle_with_the_key(it: Scene) -> None:
    """Entry 2 says something else, rightly signed: what follows does not follow it."""
    record = forged(it.record("b1"), data=b"altered")
    it.replace(record)
    leaves = [leaf_of(record) if leaf.command_uuid == "b1" else leaf for leaf in it.leaves(2)]
    it.rewrite(2, leaves, SIGNER)


@attack(since={("entry", 5)}, everywhere=True)
def write_another_history_with_the_key(it: Scene) -> None:
    """Everything fits: only who remembers can tell."""
    record = forged(it.record("b1"), data=b"altered")
    it.replace(record)
    for sequence in range(2, 6):
        leaves = [leaf_of(record) if leaf.command_uuid == "b1" else leaf for leaf in it.leaves(sequence)]
        it.rewrite(sequence, leaves, SIGNER)


@attack(since={("entry", 3)}, everywhere=True)
def put_all_back_to_an_older_copy(it: Scene) -> None:
    """Everything fits: only who remembers can tell."""
    it.put_back(HISTORY[2])


# Counted once more than it is there.
@attack(("altered", "b1"), since={("count", 6)})
def record_it_as_created_anew_with_the_key(it: Scene) -> None:
    """An alteration that would not show among the changes."""
    record = forged(it.record("b1"), data=b"altered")
    it.replace(record)
    it.rewrite(6, [leaf_of(record)], SIGNER, commands=12)
    it.point_to(6)
