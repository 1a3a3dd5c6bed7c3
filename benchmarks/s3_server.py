"""An S3 that keeps objects in memory and costs little: what is left is what a client costs.

No substitute for an engine in tests: it knows only what a store asks for, and believes any signature. Runs in a process
of its own, so that its work isn't counted. ``with S3Server() as endpoint_url: ...``; with ``tls=True`` it has a
certificate of its own, which the SDK is told of by ``AWS_CA_BUNDLE``.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ipaddress
import os
import re
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_objects: dict[str, tuple[bytes, bytes]] = {}  # path: body, ETag
_DATE = "2026-01-01T00:00:00.000Z"


def answer(  # noqa: PLR0911 - one for each thing that S3 says
    method: str, target: str, headers: dict[bytes, bytes], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    url = urlsplit(target)
    path = unquote(url.path)
    if method == "GET" and "list-type" in url.query:
        return 200, {}, _list(path.strip("/"), {k: v[0] for k, v in parse_qs(url.query).items()})
    found = _objects.get(path)
    if method == "PUT":
        wanted = headers.get(b"if-match")
        if (b"if-none-match" in headers and found) or (wanted is not None and found and found[1] != wanted):
            return 412, {}, _error("PreconditionFailed")
        if wanted is not None and not found:
            return 404, {}, _error("NoSuchKey")
        etag = b'"%b"' % hashlib.md5(body, usedforsecurity=False).hexdigest().encode()
        _objects[path] = (body, etag)
        return 200, {"ETag": etag.decode()}, b""
    if method == "DELETE":
        _objects.pop(path, None)
        return 204, {}, b""
    if not found:
        return 404, {}, _error("NoSuchKey")
    if headers.get(b"if-none-match") == found[1]:
        return 304, {"ETag": found[1].decode()}, b""
    ranged = re.fullmatch(rb"bytes=(\d+)-(\d*)", headers.get(b"range", b""))
    if not ranged:
        return 200, {"ETag": found[1].decode()}, found[0]
    first, last = int(ranged[1]), int(ranged[2] or len(found[0]) - 1)
    return 206, {"ETag": found[1].decode()}, found[0][first : last + 1]


def _list(bucket: str, query: dict[str, str]) -> bytes:
    begin = f"/{bucket}/{query.get('prefix', '')}"
    entries = "".join(
        f"<Contents><Key>{path.removeprefix(f'/{bucket}/')}</Key><ETag>&quot;{etag.decode()[1:-1]}&quot;</ETag>"
        f"<Size>{len(body)}</Size><LastModified>{_DATE}</LastModified></Contents>"
        for path, (body, etag) in sorted(_objects.items())
        if path.startswith(begin)
    )
    xml = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{xml}<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            method, target, _ = first.decode().split(" ")
            pairs = (line.partition(b":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            if headers.get(b"expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
            status, given, said = answer(method, target, headers, body)
            more = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            length = "" if status in {204, 304} else f"Content-Length: {len(said)}\r\n"
            writer.write(f"HTTP/1.1 {status} x\r\n{more}{length}\r\n".encode() + said)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


async def _serve(certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(_talk, "127.0.0.1", 0, limit=2**26, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The end of the parent, however it comes, closes our input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def _certificate() -> bytes:
    """A key and a certificate for 127.0.0.1 that signs itself, in PEM."""
    from cryptography import x509  # noqa: PLC0415 - only with TLS
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above

    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(tz=dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a benchmark")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password) + made.public_bytes(pem)


class S3Server:
    """The server in a child process; gives its endpoint's URL.

    Args:
        tls: speak HTTPS.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory() if tls else None

    def __enter__(self) -> str:
        arguments = []
        if self._folder is not None:
            path = Path(self._folder.name) / "certificate.pem"
            path.write_bytes(_certificate())
            arguments, os.environ["AWS_CA_BUNDLE"] = [str(path)], str(path)
        self._child = subprocess.Popen(  # noqa: S603 - this very file, and no shell
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdout is not None
        return f"http{'s' if self._folder else ''}://127.0.0.1:{int(self._child.stdout.readline())}"

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            del os.environ["AWS_CA_BUNDLE"]
            self._folder.cleanup()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()
        self._child.wait(timeout=10)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))
