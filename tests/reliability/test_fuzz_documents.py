"""Files and registers that were altered: leases, checkpoints, plans, marks, proofs, entries, exports, keys, PEMs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given

from commandstore import Command, CommandQuery, open_store
from commandstore.audit import check_export, check_proof, prove, read_checkpoint, verify_ledger
from commandstore.audit.checkpoint import AuditCheckpoint, write_checkpoint
from commandstore.contract import Anchor, Register
from commandstore.drive import run
from commandstore.errors import ConfigurationError, LeaseHeld, LedgerError
from commandstore.export import LEDGER_SUFFIX, export_commands
from commandstore.keyfile import crypto_from_bytes, crypto_from_file
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op, pack, unpack
from commandstore.ledger.proof import Proof
from commandstore.ledger.signing import Ed25519Signer, PublicKey, Verifier
from commandstore.memory import MemoryBackend
from commandstore.replication.backfill import _Recorded
from commandstore.replication.checkpoint import Checkpoint, OpenWindow, Parked, Pending, TimeWalk, merge
from commandstore.replication.lease import Lease
from commandstore.signingkey import signer_from
from commandstore.sql.postgres_facts import Settlement, is_settled
from reliability.mangle import PAYLOAD, altered_json, cut_or_flipped, fuzz, only_ours

SEED = bytes(range(32))
SIGNER = Ed25519Signer(SEED)
NOW = 1_790_000_000_000_000_000

# The sync's registers

ANCHORS = (Anchor(7, "c7", "0" * 16), Anchor(6, None, "1" * 16))
CHECKPOINTS = [
    Checkpoint("g1", by_sequence=True, settled=5, window=OpenWindow(9, 5, "m", ANCHORS, (1, 7), 2), anchors=ANCHORS),
    Checkpoint("g2", by_sequence=True, pending=(Pending(8, "m"),), parked=(Parked((1, 2), "c1", "why"),), identity="i"),
    Checkpoint("g3", by_sequence=False, mark=NOW, walk=TimeWalk((1, "c1"), NOW)),
]


@fuzz(400, 20000)
@given(st.sampled_from(CHECKPOINTS), st.data())
def test_an_altered_checkpoint_is_refused_or_is_one(checkpoint: Checkpoint, data: st.DataObject) -> None:
    text = data.draw(altered_json(checkpoint.to_json(source="s", query=CommandQuery(tenant_uuid="a"))))
    with only_ours() as caught:
        found = Checkpoint.from_json(text)
        # All that is done with one: it is written, merged, summed up.
        assert Checkpoint.from_json(found.to_json(source="s", query=CommandQuery())) == found
        merge(found, checkpoint)
        merge(checkpoint, found, frozenset(parked.key for parked in found.parked))
        orjson.dumps(found.summary())
    assert all(isinstance(error, ConfigurationError) for error in caught)


@fuzz(300, 10000)
@given(st.data())
def test_an_altered_lease_is_refused_held_or_taken(data: st.DataObject) -> None:
    backend = MemoryBackend()
    with open_store("memory://", create=True) as store:
        backend = store.core.backend
        value = {"version": 1, "holder": "abc", "until": NOW + data.draw(st.integers(-5, 5)), "caught_up": NOW - 9}
        text = data.draw(altered_json(orjson.dumps(value)))
        assert run(backend.register_swap("lease/x", text, expected=None, token="t"))
        lease = Lease(backend, "lease/x", seconds=10, now=lambda: NOW)
        with only_ours() as caught:
            run(lease.acquire())
            run(lease.renew())
            assert lease.caught_up is None or lease.caught_up < 2**63
            run(lease.release())
    assert all(isinstance(error, ConfigurationError | LeaseHeld) for error in caught)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_lease_that_would_never_end_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="lease_seconds"):
        Lease(MemoryBackend(), "lease/x", seconds=seconds)


@fuzz(300, 10000)
@given(st.data())
def test_an_altered_plan_of_a_backfill_is_refused_or_is_one(data: st.DataObject) -> None:
    recorded = _Recorded("p1", "g1", by_sequence=True, horizon=9, anchors=ANCHORS)
    with only_ours() as caught:
        found = _Recorded.from_json(data.draw(altered_json(recorded.to_json())))
        assert _Recorded.from_json(found.to_json()) == found
    assert all(isinstance(error, ConfigurationError) for error in caught)


@fuzz(300, 10000)
@given(st.data())
def test_an_altered_mark_of_postgres_has_settled_or_has_not(data: st.DataObject) -> None:
    now = Settlement(xmin=7, xmax=9, holders=frozenset(), prepared=False, recovering=False, seconds=5.0)
    mark = now.mark() or json.dumps({"xmax": 9, "holders": ["1/2"], "until": 3.0})
    assert is_settled(data.draw(altered_json(mark.encode())).decode("utf-8", "replace"), now) in {True, False}


# What an auditor is given


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A store with a ledger, an export of it with proofs, a proof, an auditor's checkpoint."""
    place = tmp_path_factory.mktemp("audited")
    with open_store("memory://", create=True, signer=SIGNER) as store:
        store.create_many(Command(f"c{n}", n, tenant_uuid="a", data_bytes=PAYLOAD) for n in range(5))
        store.update(Command("c1", 1, tenant_uuid="b", data_bytes=PAYLOAD))
        export_commands(store, place / "export.jsonl", proofs=True)
        proof = json.dumps(prove(store, "c1").to_json()).encode()
        report = verify_ledger(store, SIGNER.public_key())
        assert report.clean
        assert report.checkpoint is not None
        found = run(store.core.backend.register_get("ledger/entry/000000000001"))
        assert found is not None
    return {
        "export": (place / "export.jsonl").read_bytes(),
        "ledger": Path(f"{place}/export.jsonl{LEDGER_SUFFIX}").read_bytes(),
        "proof": proof,
        "checkpoint": report.checkpoint,
        "entry": found.value,
    }


@fuzz(300, 20000)
@given(data=st.data())
def test_an_altered_proof_does_not_hold_and_an_unaltered_one_does(audited: dict[str, Any], data: st.DataObject) -> None:
    text = audited["proof"]
    if data.draw(st.integers(0, 4)) == 0:  # the statement is JSON in JSON: alter it where it is read
        document = json.loads(text)
        document["entry"]["statement"] = data.draw(altered_json(document["entry"]["statement"].encode())).decode(
            "utf-8", "replace"
        )
        text = json.dumps(document).encode()
    else:
        text = data.draw(altered_json(text))
    with only_ours() as caught:
        check_proof(text, SIGNER.public_key())
        assert Proof.from_json(text) == Proof.from_json(audited["proof"])
    assert all(isinstance(error, LedgerError) for error in caught)


@fuzz(200, 10000)
@given(data=st.data())
def test_an_altered_entry_is_refused_or_its_signature_is(audited: dict[str, Any], data: st.DataObject) -> None:
    whole = json.loads(audited["entry"])
    whole["statement"] = data.draw(altered_json(whole["statement"].encode())).decode("utf-8", "replace")
    text = data.draw(st.just(json.dumps(whole).encode()) | altered_json(audited["entry"]))
    with only_ours() as caught:
        entry = Entry.from_json(text)
        right = entry == Entry.from_json(audited["entry"])
        assert (Verifier(SIGNER.public_key()).check(entry) is None) is right
    assert all(isinstance(error, LedgerError) for error in caught)


@fuzz(200, 10000)
@given(st.data())
def test_altered_bodies_of_an_entry_are_refused_or_are_leaves(data: st.DataObject) -> None:
    leaves = [Leaf(Op.CREATE, f"c{n}", bytes([n]) * 32, n) for n in range(4)]
    with only_ours() as caught:
        found = unpack([data.draw(cut_or_flipped(part)) for part in pack(leaves)])
        assert unpack(pack(found)) == found
    assert all(isinstance(error, LedgerError) for error in caught)


@fuzz(150, 10000)
@given(data=st.data())
def test_an_altered_export_is_accounted_for_line_by_line(
    audited: dict[str, Any], tmp_path: Path, data: st.DataObject
) -> None:
    rows, entries = audited["export"], audited["ledger"]
    if data.draw(st.booleans()):
        lines = rows.splitlines(keepends=True)
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = data.draw(altered_json(lines[at])).replace(b"\n", b"") + b"\n"
        rows = b"".join(lines)
    else:
        rows, entries = data.draw(st.tuples(cut_or_flipped(rows), st.just(entries) | cut_or_flipped(entries)))
    (tmp_path / "rows").write_bytes(rows)
    (tmp_path / "ledger").write_bytes(entries)
    report = check_export(tmp_path / "rows", tmp_path / "ledger", SIGNER.public_key())
    assert report.rows == report.proven + report.sealed + report.unproven + report.bad
    # What is proven is what was exported: nothing else can be.
    assert report.proven <= 5
    assert not report.holds or set(rows.splitlines()) <= set(audited["export"].splitlines()) or _same(rows, audited)
    said = orjson.dumps(report.to_dict())
    assert PAYLOAD not in said
    assert base64.b64encode(PAYLOAD)[:20] not in said


def _same(rows: bytes, audited: dict[str, Any]) -> bool:
    """Rows may hold fields more, which no proof speaks of; those that it speaks of are the same."""
    before = [json.loads(line) for line in audited["export"].splitlines()]
    after = [json.loads(line) for line in rows.splitlines() if line.strip()]
    return all(any(row | one == row or row.items() >= one.items() for one in before) for row in after)


@fuzz(300, 10000)
@given(data=st.data())
def test_an_altered_checkpoint_of_an_audit_is_refused_or_makes_the_audit_say_so(
    audited: dict[str, Any], tmp_path: Path, data: st.DataObject
) -> None:
    good: AuditCheckpoint = audited["checkpoint"]
    path = tmp_path / "checkpoint"
    path.write_bytes(data.draw(altered_json(good.to_json())))
    with only_ours() as caught:
        found = read_checkpoint(path)
        assert found is not None
        write_checkpoint(path, found)
        assert read_checkpoint(path) == found
        with open_store("memory://", create=True, signer=SIGNER) as store:
            store.create_many(Command(f"c{n}", n) for n in range(3))
            report = verify_ledger(store, SIGNER.public_key(), checkpoint=found, patience=0)
            assert not report.clean
    assert all(isinstance(error, ConfigurationError | LedgerError) for error in caught)


# Keys

HEX = SEED.hex()
KEY_FILES = [
    f"# keys\n{HEX}\n{HEX[::-1]}\ndigests {HEX}\n".encode(),
    f'{{"tenants":{{"store":"memory://keys","root":{{"key_file":"{HEX}"}}}}}}'.encode(),
    b'{"kms":{"key_id":"alias/x","digest_key":"QUJD","region":"eu-central-1","endpoint_url":"http://127.0.0.1:9"}}',
    SEED,
]


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, f"{tmp_path}/none")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_aws")
@fuzz(300, 10000)
@given(st.data())
def test_an_altered_key_file_is_refused_without_a_word_of_it(tmp_path: Path, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(KEY_FILES))
    text = data.draw(altered_json(whole) if whole.startswith(b"{") else cut_or_flipped(whole))
    path = tmp_path / "key"
    path.write_bytes(text)
    shown = [HEX, HEX[:16], SEED, f"{HEX[::-1]}"[:16]]
    for read in (lambda: crypto_from_file(path), lambda: crypto_from_bytes(text, "the secret")):
        with only_ours(*(shown if not whole.startswith(b"{") else ())):
            read()


PRIVATE = {
    "ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(SEED),
    "p256": ec.derive_private_key(7, ec.SECP256R1()),
    "p521": ec.derive_private_key(7, ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 1024),  # noqa: S505 - is to be refused
}
PEMS = [
    key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for key in PRIVATE.values()
] + [
    key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for key in PRIVATE.values()
]


@fuzz(300, 10000)
@given(st.sampled_from(PEMS), st.data())
def test_an_altered_pem_is_a_key_or_is_refused_without_a_word_of_it(
    tmp_path: Path, pem: bytes, data: st.DataObject
) -> None:
    text = data.draw(st.just(pem) | cut_or_flipped(pem))
    body = pem.splitlines()[1]
    path = tmp_path / "pem"
    path.write_bytes(text)
    for read in (
        lambda: signer_from(path),
        lambda: Verifier(text),
        lambda: PublicKey.from_pem(text.decode("latin-1")),
        lambda: Verifier([text, pem]),
    ):
        with only_ours(body, body[:24]) as caught:
            read()
        assert all(isinstance(error, ConfigurationError) for error in caught)


@fuzz(200)
@given(st.data())
def test_what_a_register_holds_is_read_or_refused_as_the_keys_of_a_tenant(data: st.DataObject) -> None:
    from commandstore.vault import LocalRoot, TenantKeys, _register  # noqa: PLC0415 - what only this test looks into

    with open_store("memory://", create=True) as store:
        keys = TenantKeys(store, LocalRoot(SEED))
        wrapped = keys.generate("a").wrapped
        backend, name = store.core.backend, _register("a")
        if data.draw(st.booleans()):
            keys.destroy("a")
        there = run(backend.register_get(name))
        assert isinstance(there, Register)
        text = data.draw(altered_json(there.value))
        assert run(backend.register_swap(name, text, expected=there.token, token="altered"))
        for use in ("generate", "unwrap", "digest_key", "rotate", "destroy"):
            fresh = TenantKeys(store, LocalRoot(SEED))
            with only_ours(HEX):
                getattr(fresh, use)(*([wrapped] if use == "unwrap" else []), "a")
