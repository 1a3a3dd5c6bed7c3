"""Key files of every kind; and that no error shows what one holds."""

from __future__ import annotations

import base64
import gc
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from commandstore import ConfigurationError, Crypto, CryptoService, DecryptionError, StoreNotFound, keyfile, open_store
from commandstore.crypto import Context, EnvelopeCrypto, Sealed
from commandstore.crypto.service import digest_key_from
from commandstore.keyfile import crypto_from_file, new_key_file, rotate_key_file, tenant_keys_from_file

KEY, OLD, OLDEST = (bytes(range(start, start + 32)) for start in (0x61, 0xA1, 0x81))  # the first is nearly text
CONTEXT = Context("t", "c")


def opens(crypto: Crypto, *keys: bytes) -> bool:
    """Whether it opens what these keys sealed."""
    return all(crypto.open(CryptoService(key).seal(b"x", CONTEXT), CONTEXT) == b"x" for key in keys)


def write(path: Path, content: bytes | str | dict[str, Any]) -> Path:
    data = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "key"


def tenants(folder: Path, name: str = "keys", **root: Any) -> dict[str, Any]:
    """A document of keys per tenant, with its store and its root's key made."""
    with open_store(f"sqlite:///{folder}/{name}.db", create=True):
        pass
    write(folder / "root", KEY.hex())
    return {"tenants": {"store": f"sqlite:///{folder}/{name}.db", "root": root or {"key_file": "root"}}}


# Keys


@pytest.mark.parametrize(
    "content",
    [
        KEY,
        KEY.hex(),
        KEY.hex().upper() + "\r\n",
        f"# a comment\n\n  {KEY.hex()}  # another\n",
        KEY.hex()[:60] + "\n" + KEY.hex()[60:] + "\n",
        KEY.hex(" "),
    ],
    ids=["raw", "hex", "upper case", "comments", "two lines as xxd writes", "spaces"],
)
def test_a_file_of_one_key(file: Path, content: bytes | str) -> None:
    crypto = crypto_from_file(write(file, content))
    assert isinstance(crypto, CryptoService)
    assert opens(crypto, KEY)
    assert crypto.digest(bytes(32), CONTEXT) == CryptoService(KEY).digest(bytes(32), CONTEXT)


def test_the_first_line_seals_and_the_others_open(file: Path) -> None:
    crypto = crypto_from_file(str(write(file, f"{KEY.hex()}\n{OLD.hex()}\n{OLDEST.hex()}\n")))
    assert opens(crypto, KEY, OLD, OLDEST)
    assert opens(CryptoService(KEY), KEY)
    assert CryptoService(KEY).open(crypto.seal(b"x", CONTEXT), CONTEXT) == b"x"
    assert crypto.digest(bytes(32), CONTEXT) == CryptoService(OLDEST).digest(bytes(32), CONTEXT)


def test_a_line_has_the_key_of_the_digests(file: Path) -> None:
    crypto = crypto_from_file(write(file, f"{KEY.hex()}\ndigest {digest_key_from(OLD).hex()}\n"))
    assert crypto.digest(bytes(32), CONTEXT) == CryptoService(OLD).digest(bytes(32), CONTEXT)
    assert opens(crypto, KEY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        KEY[:31],
        KEY + b"\n",
        KEY.hex()[:62],
        KEY.hex() + "00",
        KEY.hex() + "\n" + OLD.hex()[:62],
        f"digest {KEY.hex()}",
        f"{KEY.hex()}\ndigest {OLD.hex()[:-2]}",
        f"{KEY.hex()}\ndigest {OLD.hex()}\ndigest {OLD.hex()}",
        f"key {KEY.hex()}",
        "# nothing but a comment",
        KEY.hex()[:-1] + "é",
        {"kms": {"key_id": "k", "digest_key": "not base64: " + KEY.hex()}},
        {"kms": {"key_id": "k"}},
        {"kms": {"key_id": "", "digest_key": "YQ=="}},
        {"kms": {"key_id": "k", "digest_key": KEY.hex(), KEY.hex(): 1}},
        {"tenants": {"store": "memory://k"}},
        {"tenants": {"store": "memory://k", "root": {}}},
        {"tenants": {"store": "memory://k", "root": {"key_file": "x", "kms": {"key_id": KEY.hex()}}}},
        {"tenants": {"store": KEY.hex(), "root": {"key_file": "x"}}},
        {"kms": None},
        {},
        {KEY.hex(): KEY.hex()},
        "{" + KEY.hex(),
    ],
    ids=range(24),
)
def test_what_is_no_key_file_is_refused_without_a_word_of_what_it_holds(file: Path, content: Any) -> None:
    with pytest.raises(ConfigurationError, match="key") as caught:
        crypto_from_file(write(file, content))
    shown = ""
    error: BaseException | None = caught.value
    while error is not None:
        shown += f"{error!r} {error}"
        error = error.__cause__
    for secret in (KEY, OLD):
        assert secret.hex()[:16] not in shown
        assert secret.decode("latin-1")[:16] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "my password is thirty-one chars\n",
        "thirty-two letters and no lf now",
        "0123456789abcdef0123456789abcdef",
        "ein Paßwort mit Umlaut, äöü\n",
        "\ufeffwith the mark of one editor\r\n",
        " " * 32,
    ],
    ids=["line", "no newline", "half a key in hex", "not English", "mark", "blank"],
)
def test_text_of_32_bytes_is_no_key_and_is_not_shown(file: Path, text: str) -> None:
    content = text.encode()
    assert len(content) == 32
    with pytest.raises(ConfigurationError, match="commandstore keys new FILE") as caught:
        crypto_from_file(write(file, content))
    assert text[1:12].isspace() or text[1:12] not in str(caught.value)
    # What is one in fact still has a way in.
    assert opens(crypto_from_file(write(file, content.hex())), content)


@pytest.mark.parametrize("byte", [0, 0x1B, 0x7F, 0x80, 0xFF])
def test_one_byte_that_nobody_types_makes_it_a_raw_key(file: Path, byte: int) -> None:
    raw = b"k" * 31 + bytes([byte])
    assert opens(crypto_from_file(write(file, raw)), raw)


def test_a_file_that_cant_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigurationError, match="can't read the key file"):
            crypto_from_file(path)


# Making and rotating


def test_a_new_file_is_for_its_owner_alone_and_works(file: Path) -> None:
    new_key_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    crypto = crypto_from_file(file)
    assert crypto.open(crypto.seal(b"x", CONTEXT), CONTEXT) == b"x"


def test_a_new_file_never_overwrites(file: Path) -> None:
    new_key_file(file)
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="already"):
        new_key_file(file)
    assert file.read_bytes() == before


def test_a_new_file_in_a_place_that_isnt_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't write"):
        new_key_file(tmp_path / "no" / "key")


@pytest.mark.parametrize("content", [KEY, f"# mine\n{KEY.hex()}\n"], ids=["raw", "lines"])
def test_a_rotation_puts_a_new_key_first_and_keeps_the_digests(file: Path, content: Any) -> None:
    write(file, content).chmod(0o640)
    for _ in range(2):
        rotate_key_file(file)
    crypto = crypto_from_file(file)
    assert opens(crypto, KEY)
    with pytest.raises(DecryptionError):
        CryptoService(KEY).open(Sealed(crypto.seal(b"x", CONTEXT).data, ""), CONTEXT)
    assert crypto.digest(bytes(32), CONTEXT) == CryptoService(KEY).digest(bytes(32), CONTEXT)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["key"]
    # The oldest can be dropped then, and digests still compare.
    lines = [line for line in file.read_text().splitlines() if line != KEY.hex()]
    later = crypto_from_file(write(file, "\n".join(lines)))
    assert later.digest(bytes(32), CONTEXT) == CryptoService(KEY).digest(bytes(32), CONTEXT)


def test_rotations_at_once_lose_no_key(file: Path) -> None:
    new_key_file(file)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rotate_key_file, [file] * 8))
    assert len([line for line in file.read_text().splitlines() if len(line) == 64]) == 9
    assert [path.name for path in file.parent.iterdir()] == ["key"]


def test_what_something_else_changes_during_a_rotation_is_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_key_file(file)
    fill = keyfile._fill

    def edited(descriptor: int, text: str) -> None:
        fill(descriptor, text)
        write(file, OLD.hex())

    monkeypatch.setattr(keyfile, "_fill", edited)
    with pytest.raises(ConfigurationError, match="changed meanwhile"):
        rotate_key_file(file)
    assert file.read_text() == OLD.hex()
    assert [path.name for path in file.parent.iterdir()] == ["key"]


def test_a_rotation_through_a_link_changes_what_it_leads_to(tmp_path: Path, file: Path) -> None:
    new_key_file(file)
    (tmp_path / "link").symlink_to(file)
    rotate_key_file(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(file.read_text().splitlines()) == 4


def test_what_has_no_keys_in_it_is_not_rotated(tmp_path: Path, file: Path) -> None:
    for document, hint in (
        ({"kms": {"key_id": "k", "digest_key": "YQ=="}}, "KMS rotates"),
        (tenants(tmp_path), "--tenant"),
    ):
        write(file, document)
        before = file.read_bytes()
        with pytest.raises(ConfigurationError, match=hint):
            rotate_key_file(file)
        assert file.read_bytes() == before


# Keys elsewhere


def test_a_file_describes_keys_per_tenant(tmp_path: Path, file: Path) -> None:
    write(file, tenants(tmp_path))
    crypto = crypto_from_file(file)
    assert isinstance(crypto, EnvelopeCrypto)
    sealed, other = crypto.seal(b"x", CONTEXT), crypto.seal(b"y", Context("u", "c"))
    assert crypto_from_file(file).open(sealed, CONTEXT) == b"x"
    tenant_keys_from_file(file).destroy("t")
    again = crypto_from_file(file)
    with pytest.raises(DecryptionError, match="destroyed"):
        again.open(sealed, CONTEXT)
    assert again.open(other, Context("u", "c")) == b"y"


def test_the_store_of_keys_is_closed_with_the_last_who_needs_it(tmp_path: Path, file: Path) -> None:
    keys = tenant_keys_from_file(write(file, tenants(tmp_path)))
    store = keys._store
    keys.generate("t")
    assert store.core._open
    del keys
    gc.collect()
    assert not store.core._open


def test_a_store_of_keys_is_never_made_in_silence(tmp_path: Path, file: Path) -> None:
    document = tenants(tmp_path)
    document["tenants"]["store"] = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(StoreNotFound):
        crypto_from_file(write(file, document))


def test_the_root_of_tenants_keys_is_a_file_of_keys(tmp_path: Path, file: Path) -> None:
    write(file, tenants(tmp_path))
    write(tmp_path / "root", tenants(tmp_path))
    with pytest.raises(ConfigurationError, match=r"root\.key_file"):
        crypto_from_file(file)


def test_tenants_keys_are_not_in_files_of_another_kind(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="another kind"):
        tenant_keys_from_file(write(file, KEY))


def test_a_file_describes_keys_in_kms_and_asks_for_nothing_yet(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    local = {"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:9"}
    digest_key = base64.b64encode(b"wrapped").decode()
    kms = crypto_from_file(write(file, {"kms": {"key_id": "alias/a", "digest_key": digest_key, **local}}))
    assert repr(kms) == "EnvelopeCrypto(aes-256-gcm+kms)"
    rooted = crypto_from_file(write(file, tenants(tmp_path, kms={"key_id": "alias/a", **local})))
    assert repr(rooted) == "EnvelopeCrypto(aes-256-gcm+vault)"


@pytest.mark.parametrize("given", ["ab" * 32, f"keys/{'ab' * 32}.key"])
def test_a_key_that_is_given_where_its_file_is_asked_for_is_not_shown(given: str, file: Path) -> None:
    document = {"tenants": {"store": "memory://keys", "root": {"key_file": given}}}
    for read in (lambda: crypto_from_file(given), lambda: crypto_from_file(write(file, document))):
        with pytest.raises(ConfigurationError, match=r"\(hex digits\)") as caught:
            read()
        assert "abab" not in str(caught.value)
