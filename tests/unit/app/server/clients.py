"""Real and in-memory TLS clients, a small WSGI application, and a server to try them on."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from app.access.admission import Gate
from app.server.certificate import ServerIdentity, make_identity
from app.server.server import ApplianceServer
from app.server.tls.channel import Channel, Endpoint
from app.server.tls.libraries import LIBRARIES
from app.server.transport import TransportLimits
from app.server.wsgi import CLIENT_GONE

WATCHDOG_S = 20.0
"""No step of a test takes this long; it only turns a hang into a failure."""

SERVER_NAME = "Cloister/test"
LIBRARY = "mbedtls"
"""What the servers of tests have for TLS; the fixture `tls_library` changes it."""

OPEN = Gate(None, insecure_open_access=True)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@functools.cache
def identity() -> ServerIdentity:
    return new_identity()


def new_identity() -> ServerIdentity:
    return make_identity(
        "localhost",
        "Cloister test",
        dns_names=["localhost"],
        addresses=["127.0.0.1"],
        valid_days=2,
        now=now(),
    )


@functools.cache
def rsa_identity() -> ServerIdentity:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start, end = now(), now() + datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return ServerIdentity(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        "",
    )


def client_context(server: ServerIdentity | None = None) -> ssl.SSLContext:
    pem = (server or identity()).certificate_pem.decode()
    return ssl.create_default_context(cadata=pem)


def old_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that speaks nothing newer than `version`."""
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
    return context


def client_hello(context: ssl.SSLContext | None = None) -> bytes:
    """The first flight of a real client, to be cut anywhere."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = (context or client_context()).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One verified TLS connection."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        raw = socket.create_connection(address, timeout=WATCHDOG_S)
        try:
            self.socket = (context or client_context()).wrap_socket(
                raw, server_hostname="localhost"
            )
        except BaseException:
            raw.close()
            raise
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self, *, head_only: bool = False) -> Response:
        status = self.file.readline()
        if not status:
            raise EOFError("the server closed the connection")
        headers = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        size = 0 if head_only else int(headers.get("content-length", "0"))
        return Response(int(status.split()[1]), headers, self.file.read(size))

    def ask(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> Response:
        self.send(request_bytes(method, path, body, **headers))
        return self.response(head_only=method == "HEAD")

    def is_closed(self) -> bool:
        """Waits for the end of the connection; False when bytes come instead."""
        try:
            return not self.file.read(1)
        except OSError:
            return True

    def reset(self) -> None:
        """Goes away with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


class Neighbour(Client):
    """A client from another address of this machine, hence another client to the server."""

    def __init__(self, address: tuple[str, int], host: str = "127.0.0.2") -> None:
        raw = socket.create_connection(address, WATCHDOG_S, source_address=(host, 0))
        self.socket = client_context().wrap_socket(raw, server_hostname="localhost")
        self.file = self.socket.makefile("rb")


def request_bytes(method: str, path: str, body: bytes = b"", /, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Application:
    """WSGI: /echo, /down/BYTES, /status/CODE, /environ, /boom, and /wait until `release` is set."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        self.saw_client_gone = threading.Event()
        self.calls: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.calls.append(path)
        answer = self._answer(path, environ)
        start_response(
            path.removeprefix("/status/") + " Said" if path.startswith("/status/") else "200 OK",
            [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))],
        )
        return failing_late(answer) if path == "/late-boom" else [answer]

    def _answer(self, path: str, environ: dict[str, Any]) -> bytes:
        if path == "/boom":
            raise RuntimeError("a secret of the client")
        if path == "/wait":
            self._wait(environ)
        if path.startswith("/down/"):
            return pattern(int(path.removeprefix("/down/")))
        if path == "/environ":
            plain = {key: value for key, value in environ.items() if isinstance(value, str | bool)}
            return json.dumps(plain).encode()
        body = environ["wsgi.input"].read()
        return json.dumps(
            {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "path": path}
        ).encode()

    def _wait(self, environ: dict[str, Any]) -> None:
        self.entered.release()
        until(lambda: self.release.is_set() or environ[CLIENT_GONE]())
        if environ[CLIENT_GONE]():
            self.saw_client_gone.set()


def failing_late(answer: bytes) -> Iterator[bytes]:
    yield answer[:1]
    raise RuntimeError("a secret of the client")


def pattern(size: int) -> bytes:
    """Bytes in which every position is recognisable."""
    block = b"".join(number.to_bytes(4, "big") for number in range(4096))
    return (block * (size // len(block) + 1))[:size]


def endpoint(server: ServerIdentity | None = None, client_ca_pem: bytes | None = None) -> Endpoint:
    """The TLS of a test's server."""
    return LIBRARIES[LIBRARY](server or identity(), client_ca_pem)


@contextmanager
def serving(
    application: Callable[..., Iterable[bytes]],
    *,
    tls: Endpoint | None = None,
    workers: int = 2,
    gate: Gate = OPEN,
    limits: TransportLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ApplianceServer]:
    server = ApplianceServer(
        application,
        tls or endpoint(),
        ("127.0.0.1", 0),
        workers,
        SERVER_NAME,
        gate=gate,
        limits=limits,
        clock=clock,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()
    assert server.front.connections == 0
    assert server.front.buffered_bytes == 0


class Clock:
    """Real time plus what a test adds."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.offset_s

    def advance(self, seconds: float) -> None:
        self.offset_s += seconds


def tcp(server: ApplianceServer) -> socket.socket:
    """Connects without TLS."""
    return socket.create_connection(server.address, timeout=WATCHDOG_S)


def assert_serves(server: ApplianceServer) -> None:
    """An ordinary client gets its answer."""
    with Client(server.address) as client:
        assert client.ask("POST", "/echo", b"alive").json()["bytes"] == 5


def until(condition: Callable[[], bool]) -> None:
    """Waits for another thread to make something true."""
    end = time.monotonic() + WATCHDOG_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        pause.wait(0.005)


def curl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the real curl, which trusts exactly the test's certificate."""
    certificate = folder / "ca.pem"
    certificate.write_bytes(identity().certificate_pem)
    return subprocess.run(
        ["curl", "--silent", "--max-time", str(WATCHDOG_S), "--cacert", certificate, *arguments],
        capture_output=True,
        check=False,
    )


class PlainChannel(Channel):
    """A channel whose ciphertext is the plaintext; the handshake is the word HELLO."""

    _errors = (ValueError,)

    def __init__(self) -> None:
        super().__init__()
        self.incoming = b""
        self.outgoing = b""
        self.holds_back = False
        """As if the bytes fed so far were a part of a record."""

    def feed(self, ciphertext: bytes) -> None:
        self.incoming += ciphertext

    def take_ciphertext(self) -> bytes:
        ciphertext, self.outgoing = self.outgoing, b""
        return ciphertext

    def _shake(self) -> bool:
        if len(self.incoming) < 5:
            return False
        if not self.incoming.startswith(b"HELLO"):
            self.outgoing = b"ALERT"
            raise ValueError("no hello")
        self.incoming = self.incoming[5:]
        return True

    def _client_certificate(self) -> None:
        return None

    def _decrypt(self) -> bytes | None:
        if self.holds_back or not self.incoming:
            return None
        plaintext, self.incoming = self.incoming, b""
        return plaintext

    def _encrypt(self, plaintext: memoryview) -> None:
        self.outgoing += plaintext

    def _say_goodbye(self) -> None:
        self.outgoing += b"BYE"
