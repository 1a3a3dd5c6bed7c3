"""A Postgres that speaks TLS: the test's own server has none, so this stands before it and takes the TLS away."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "TlsProxy"]

_SSL_REQUEST = (80877103).to_bytes(4, "big")
_GSS_REQUEST = (80877104).to_bytes(4, "big")


class Authority:
    """A self-signed certificate authority, made for one test.

    Args:
        folder: where its files go.
        name: of the authority.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._now = dt.datetime.now(dt.UTC)
        certificate = self._signed(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType, days: int = 1
    ) -> x509.Certificate:
        day = dt.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - 3 * day)
            .not_valid_after(self._now + days * day)
        )
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(self._key, hashes.SHA256())

    def server(self, *hosts: str, days: int = 1) -> ssl.SSLContext:
        """What a server of these hosts shows: a certificate for so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(h)) if h[0].isdigit() else x509.DNSName(h) for h in hosts]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        certificate = self._signed(subject, key.public_key(), x509.SubjectAlternativeName(names), days=days)
        file = self._folder / f"server-{x509.random_serial_number():x}.pem"
        plain = serialization.NoEncryption()
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


class TlsProxy:
    """Answers Postgres' request for TLS and hands what comes through it on to a server.

    Args:
        context: of the TLS; None refuses it, as a server without TLS (or whoever stands in between) does.
        port: of the server, on 127.0.0.1.

    Attributes:
        port: of this proxy, on 127.0.0.1.
        connections: how many came.
        heard: what clients said, once they had accepted the certificate or gone on without one.
    """

    def __init__(self, context: ssl.SSLContext | None, port: int) -> None:
        self._context = context
        self._server = port
        self.connections = 0
        self.heard = bytearray()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # `close` alone wakes no thread that waits in `accept` or `recv`, and one may just be opening another socket.
        while any(thread.is_alive() for thread in self._threads):
            for one in (self._listener, *self._open):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for thread in list(self._threads):
                thread.join(0.05)
        for one in (self._listener, *self._open):
            one.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            first = client.recv(8, socket.MSG_WAITALL)
            if first[4:] == _GSS_REQUEST:
                client.sendall(b"N")
                first = client.recv(8, socket.MSG_WAITALL)
            if self._context is None or first[4:] != _SSL_REQUEST:
                client.sendall(b"N")
                self.heard += client.recv(65536)
                client.close()
                return
            client.sendall(b"S")
            client = self._context.wrap_socket(client, server_side=True)
            self._open.append(client)
            server = socket.create_connection(("127.0.0.1", self._server))
            self._open.append(server)
        except OSError:
            client.close()
            return
        self._start(self._pass_on, server, client)
        self._pass_on(client, server)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if isinstance(source, ssl.SSLSocket):
                    self.heard += data
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
