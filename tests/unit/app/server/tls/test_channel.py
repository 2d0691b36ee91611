"""Each library's channel against OpenSSL's client in memory: no socket, no thread."""

from __future__ import annotations

import random
import ssl

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from app.errors import ConfigError
from app.server.certificate import ServerIdentity
from app.server.tls import mbedtls, openssl
from app.server.tls.channel import Channel, ChannelState, Endpoint, TlsError
from tests.unit.app.server.clients import (
    client_context,
    endpoint,
    identity,
    old_context,
    pattern,
    rsa_identity,
)
from tests.unit.app.server.tls.issued import issue
from tests.unit.app.server.tls.pair import Pair, Wire, open_pair

pytestmark = pytest.mark.usefixtures("wire")


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def test_bytes_arrive_in_both_directions(wire: Wire) -> None:
    pair = open_pair()
    assert pair.up(b"question") == b"question"
    assert pair.down(b"answer") == b"answer"
    assert pair.client.version() == wire.newest.name.replace("v1_", "v1.")


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 32768, 1_000_000])
def test_no_size_is_special(size: int) -> None:
    pair = open_pair()
    data = pattern(size)
    assert pair.up(data) == data
    assert pair.down(data) == data


def test_ciphertext_may_arrive_byte_by_byte() -> None:
    pair = open_pair(cut=bytewise)
    assert pair.up(pattern(20_000)) == pattern(20_000)


def test_ciphertext_may_be_cut_anywhere() -> None:
    dice = random.Random(5)

    def cut(data: bytes) -> list[bytes]:
        edges = sorted(dice.randrange(len(data) + 1) for _ in range(20)) if data else []
        return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True) if a < b]

    pair = open_pair(cut=cut)
    for size in (100, 40_000, 200_000):
        assert pair.up(pattern(size)) == pattern(size)


def test_thousands_of_tiny_records_in_one_piece() -> None:
    pair = open_pair()
    data = pattern(3000)
    for byte in bytewise(data):
        pair.client.write(byte)
    pair.server.feed(pair.from_client.read())
    assert pair.server.read() == data


def test_a_full_and_a_partial_record_together_lose_nothing() -> None:
    pair = open_pair()
    pair.client.write(b"first")
    pair.client.write(b"second")
    wire = pair.from_client.read()
    pair.server.feed(wire[:-3])
    assert pair.server.read() == b"first"
    pair.server.feed(wire[-3:])
    assert pair.server.read() == b"second"


def test_an_rsa_certificate_works_on_openssl_alone(wire: Wire) -> None:
    server = rsa_identity()
    if wire.library == "mbedtls":
        with pytest.raises(ConfigError, match="P-256, P-384 or P-521; 'openssl' takes RSA too"):
            endpoint(server)
        return
    pair = open_pair(client_context(server), server=server)
    assert pair.up(b"question") == b"question"


def test_intermediate_certificates_are_sent() -> None:
    root = issue("root", is_ca=True)
    between = issue("between", root, is_ca=True)
    server = issue("localhost", between, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.check_hostname = False  # the name stands in the subject alone
    chain = ServerIdentity(server.pem + between.pem, server.key_pem, "")
    assert open_pair(context, server=chain).up(b"question") == b"question"


def test_close_notify_of_the_client_is_an_end_and_no_error() -> None:
    pair = open_pair()
    pair.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.server.feed(pair.from_client.read())
    assert pair.server.read() == b"last words"
    assert pair.server.state is ChannelState.ENDED
    assert pair.server.read() == b""
    with pytest.raises(TlsError, match="ENDED"):
        pair.server.write(b"too late")


def test_close_notify_of_the_server_arrives_as_a_clean_end() -> None:
    pair = open_pair()
    pair.server.close_notify()
    pair.server.close_notify()
    pair.to_client.write(pair.server.take_ciphertext())
    # Without close_notify OpenSSL would raise SSLWantReadError, as the wire hasn't ended.
    assert pair.client.read(1) == b""
    with pytest.raises(TlsError):
        pair.server.write(b"too late")


def assert_dead(channel: Channel) -> None:
    assert channel.state is ChannelState.FAILED
    for step in (channel.handshake, channel.read, lambda: channel.write(b"x")):
        with pytest.raises(TlsError):
            step()
    channel.close_notify()
    assert channel.take_ciphertext() == b""


def test_a_flipped_bit_ends_the_connection_and_gives_no_plaintext() -> None:
    pair = open_pair()
    pair.client.write(b"pay 10")
    wire = bytearray(pair.from_client.read())
    wire[-1] ^= 1
    pair.server.feed(bytes(wire))
    with pytest.raises(TlsError):
        pair.server.read()
    pair.server.take_ciphertext()
    assert_dead(pair.server)


def test_a_replayed_record_ends_the_connection() -> None:
    pair = open_pair()
    pair.client.write(b"pay 10")
    wire = pair.from_client.read()
    pair.server.feed(wire)
    assert pair.server.read() == b"pay 10"
    pair.server.feed(wire)
    with pytest.raises(TlsError):
        pair.server.read()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x03\xff\xff" + bytes(70_000),
        bytes(100),
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
def test_garbage_fails_the_handshake_for_good(garbage: bytes) -> None:
    channel = endpoint().channel()
    channel.feed(garbage)
    with pytest.raises(TlsError) as caught:
        channel.handshake()
    assert "hello" not in str(caught.value)
    assert "localhost" not in str(caught.value)
    channel.take_ciphertext()
    assert_dead(channel)


def test_a_handshake_without_bytes_waits_and_does_not_spin() -> None:
    channel = endpoint().channel()
    assert not channel.handshake()
    assert not channel.handshake()
    assert channel.state is ChannelState.HANDSHAKE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(version: ssl.TLSVersion) -> None:
    pair = Pair(old_context(version))
    with pytest.raises(TlsError):
        pair.shake()
    assert pair.server.state is ChannelState.FAILED


def openssl_suites() -> list[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    names = (str(suite["name"]) for suite in context.get_ciphers())
    return [name for name in names if not name.startswith("TLS_")]  # those are TLS 1.3's


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_only_forward_secret_authenticated_suites_are_accepted(kind: str, wire: Wire) -> None:
    server = identity() if kind == "EC" or wire.library == "mbedtls" else rsa_identity()
    signature = "ECDSA" if server is identity() else "RSA"
    expected = {
        f"ECDHE-{signature}-{cipher}"
        for cipher in ("CHACHA20-POLY1305", "AES256-GCM-SHA384", "AES128-GCM-SHA256")
    }
    names = openssl_suites()
    assert expected < set(names)
    tls = endpoint(server)
    accepted = {name for name in names if is_accepted(name, client_context(server), tls)}
    assert accepted == expected
    assert (len(mbedtls.SUITES), len(openssl.SUITES)) == (3, 6)


def is_accepted(suite: str, context: ssl.SSLContext, tls: Endpoint) -> bool:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    try:
        Pair(context, tls=tls).shake()
    except (TlsError, ssl.SSLError):
        return False
    return True


def test_a_key_that_is_none_is_refused() -> None:
    mixed = ServerIdentity(identity().certificate_pem, b"not a key", "")
    with pytest.raises(ConfigError, match="can't use it or its key"):
        endpoint(mixed)


def offering(*protocols: str) -> ssl.SSLContext:
    context = client_context()
    context.set_alpn_protocols(protocols)
    return context


def test_alpn_chooses_http_1_1_only() -> None:
    assert open_pair(offering("h2", "http/1.1")).client.selected_alpn_protocol() == "http/1.1"
    assert open_pair().client.selected_alpn_protocol() is None


def test_a_client_that_speaks_only_another_protocol_is_promised_nothing(wire: Wire) -> None:
    pair = Pair(offering("h2"))
    if wire.library == "mbedtls":
        with pytest.raises(TlsError):
            pair.shake()
        pair.to_client.write(pair.server.take_ciphertext())
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            pair.client.do_handshake()
    else:
        pair.shake()
        assert pair.client.selected_alpn_protocol() is None


def test_sessions_are_resumed_where_the_library_has_tickets(wire: Wire) -> None:
    tls, context = endpoint(), client_context()
    first = open_pair(context, tls=tls)
    assert first.down(b"answer") == b"answer"  # a ticket of TLS 1.3 comes with it
    assert not first.client.session_reused
    second = open_pair(context, tls=tls, session=first.client.session)
    assert second.client.session_reused is (wire.library == "openssl")
    assert second.up(b"question") == b"question"
    stranger = open_pair(context, tls=endpoint(), session=first.client.session)
    assert not stranger.client.session_reused, "a ticket is good for its own endpoint only"
