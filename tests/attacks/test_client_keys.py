"""A stranger makes the server verify signatures with keys that take seconds.

The certificates prove nothing and name nobody. Each is signed by itself or by the next one with an
RSA key whose exponent is as long as its modulus, so that every verification is as dear as one can
make it. Whoever isn't asked for a certificate can't send one; with a CA, such keys are refused
before a signature is looked at. Refusals are counted here, not timed.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.errors import ConfigError
from app.server.certificate import load_client_ca
from app.server.server import ApplianceServer
from app.server.tls.mbedtls import MbedtlsEndpoint
from tests.attacks.test_tls_protocol import s_client
from tests.unit.app.server.clients import (
    Application,
    Client,
    assert_serves,
    client_context,
    endpoint,
    identity,
    serving,
)
from tests.unit.app.server.tls.issued import issue
from tests.unit.app.server.tls.long_keys import long_exponent_key, self_signed

CA = issue("ca", is_ca=True)


@pytest.fixture
def asking(application: Application, tls_library: str) -> Iterator[ApplianceServer]:
    """A server that has a CA for client certificates."""
    del tls_library
    with serving(application, tls=endpoint(client_ca_pem=CA.pem)) as server:
        yield server


def pem(path: Path, key: rsa.RSAPrivateKey, chain: list[x509.Certificate]) -> Path:
    parts = [each.public_bytes(Encoding.PEM) for each in chain]
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(b"".join([*parts, private]))
    return path


def long_exponent(path: Path) -> Path:
    key = long_exponent_key(2048)
    return pem(path, key, [self_signed(key)])


def long_exponent_of_3072(path: Path) -> Path:
    """As long as OpenSSL itself lets exponents be of any length."""
    key = long_exponent_key(3072)
    return pem(path, key, [self_signed(key)])


def long_exponent_behind_a_good_one(path: Path) -> Path:
    key = usual_exponent(2048)
    return pem(path, key, [self_signed(key), self_signed(long_exponent_key(2048))])


@functools.cache
def usual_exponent(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def long_modulus(path: Path) -> Path:
    key = usual_exponent(4104)
    return pem(path, key, [self_signed(key)])


def long_chain(path: Path) -> Path:
    key = usual_exponent(2048)
    return pem(path, key, [self_signed(key)] * 5)


HOSTILE = (
    long_exponent,
    long_exponent_of_3072,
    long_exponent_behind_a_good_one,
    long_modulus,
    long_chain,
)


def test_nobody_is_asked_for_a_certificate_without_a_ca(server: ApplianceServer) -> None:
    for options in ((), ("-tls1_2",), ("-no_ticket",)):
        said = s_client(server, "-msg", *options)
        assert "Finished" in said
        assert "CertificateRequest" not in said
    assert_serves(server)


def test_with_a_ca_clients_are_asked(asking: ApplianceServer) -> None:
    assert "CertificateRequest" in s_client(asking, "-msg")


@pytest.mark.parametrize("make", HOSTILE)
def test_a_certificate_that_nobody_asked_for_is_never_sent(
    server: ApplianceServer, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    context = client_context()
    context.load_cert_chain(make(tmp_path / "client.pem"))
    with Client(server.address, context) as client:
        assert client.ask("GET", "/echo").status == 200


@pytest.mark.parametrize("make", HOSTILE)
def test_keys_that_take_long_are_refused(
    asking: ApplianceServer,
    application: Application,
    tmp_path: Path,
    make: Callable[[Path], Path],
) -> None:
    context = client_context()
    context.load_cert_chain(make(tmp_path / "client.pem"))
    with (
        pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
        Client(asking.address, context) as client,
    ):
        client.ask("GET", "/echo")
    assert application.calls == []
    assert_serves(asking)


def test_mbedtls_verifies_nothing_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library isn't given one byte of what would make it verify."""
    monkeypatch.setattr("tests.unit.app.server.clients.LIBRARY", "mbedtls")
    given: list[bytes] = []

    class Buffer:
        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def receive_from_network(self, data: bytes) -> None:
            given.append(data)
            self._inner.receive_from_network(data)  # type: ignore[attr-defined]

    channel = endpoint(client_ca_pem=CA.pem).channel()
    channel._buffer = Buffer(channel._buffer)  # type: ignore[attr-defined]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context()
    context.load_cert_chain(long_exponent(tmp_path / "client.pem"))
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ConnectionError, match="exponent of at most 32 bits"):
        for _ in range(4):
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            channel.feed(outgoing.read())
            channel.handshake()
            incoming.write(channel.take_ciphertext())
    assert len(given) == 1, "the hello alone"
    assert given[0][5] == 1


def test_another_build_of_the_binding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set there has a place that only the pinned build is known to have."""
    monkeypatch.setattr("app.server.tls.mbedtls._ASKS", bytes(7))
    with pytest.raises(ConfigError, match="isn't the one that the lock pins"):
        MbedtlsEndpoint(identity())


def test_an_rsa_client_of_usual_size_is_let_in(tmp_path: Path, tls_library: str) -> None:
    del tls_library
    key = usual_exponent(2048)
    certificate = self_signed(key)
    context = client_context()
    context.load_cert_chain(pem(tmp_path / "client.pem", key, [certificate]))
    trusted = certificate.public_bytes(Encoding.PEM)
    with (
        serving(Application(), tls=endpoint(client_ca_pem=trusted)) as server,
        Client(server.address, context) as client,
    ):
        assert client.ask("GET", "/echo").status == 200


@pytest.mark.parametrize("make", [long_exponent, long_modulus])
def test_such_a_key_isnt_trusted_either(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(ConfigError, match="RSA of 2048 to 4096 bits with an exponent of at most"):
        load_client_ca(make(tmp_path / "ca.pem"))
