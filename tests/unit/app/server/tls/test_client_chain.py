"""Certificates are looked at before Mbed TLS gets them, however their bytes are cut."""

from __future__ import annotations

import functools
import itertools
import ssl
from collections.abc import Callable, Sequence

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from app.config import TLS_LIBRARIES
from app.server.tls.channel import TlsError
from app.server.tls.client_chain import MAX_CERTIFICATES, ClientChain
from tests.unit.app.server.clients import client_context, client_hello, endpoint
from tests.unit.app.server.tls.issued import Issued, issue
from tests.unit.app.server.tls.long_keys import long_exponent

CCS = b"\x14\x03\x03\0\1\1"
WARNING = b"\x15\x03\x03\0\2\1\x5a"


@functools.cache
def client() -> bytes:
    return der(issue("client"))


@functools.cache
def hostile() -> bytes:
    return long_exponent(2048).public_bytes(Encoding.DER)


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


def record(fragment: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + len(fragment).to_bytes(2, "big") + fragment


def message(body: bytes, kind: int = 11) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def certificates(chain: Sequence[bytes]) -> bytes:
    body = b"".join(len(each).to_bytes(3, "big") + each for each in chain)
    return message(len(body).to_bytes(3, "big") + body)


def feed(*pieces: bytes) -> None:
    chain = ClientChain()
    for piece in pieces:
        chain.feed(piece)


def test_what_clients_send_passes() -> None:
    feed(
        client_hello(), record(certificates([client()])), record(message(b"k", 16)), CCS, b"x" * 99
    )
    feed(client_hello(), record(certificates([])), CCS)
    feed(record(certificates([client()] * MAX_CERTIFICATES)))


@pytest.mark.parametrize(
    "fragments",
    [
        lambda raw: [raw],
        lambda raw: [raw[:1], raw[1:]],
        lambda raw: [raw[:5], b"", raw[5:]],
        lambda raw: [raw[index : index + 100] for index in range(0, len(raw), 100)],
        lambda raw: [message(b"k" * 3, 16) + raw],
        lambda raw: [message(b"k" * 3, 16) + raw[:7], raw[7:]],
    ],
)
def test_a_long_exponent_is_found_however_it_is_fragmented(fragments: object) -> None:
    assert callable(fragments)
    raw = certificates([client(), hostile()])
    flight = b"".join(record(fragment) for fragment in fragments(raw))
    with pytest.raises(ValueError, match="exponent of at most 32 bits"):
        feed(client_hello(), WARNING, flight)
    with pytest.raises(ValueError, match="exponent of at most 32 bits"):
        feed(client_hello(), *(flight[i : i + 1] for i in range(len(flight))))


def test_it_is_found_before_its_last_byte_is_passed_on() -> None:
    flight = record(certificates([hostile()]))
    chain = ClientChain()
    chain.feed(flight[:-1])
    with pytest.raises(ValueError, match="exponent"):
        chain.feed(flight[-1:])


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (record(certificates([b"x"] * 1)), "can't be read"),
        (lambda: record(certificates([client()[:-1]])), "can't be read"),
        (lambda: record(certificates([client() + b"\0"])), "can't be read"),
        (lambda: record(certificates([client()] * (MAX_CERTIFICATES + 1))), "too many"),
        (record(message(b"\0\0\5\0\0\5x")), "wrong length"),
        (record(message(b"\0\0\4\0\0\5x")), "cut off"),
        (record(message(b"")), "wrong length"),
        (record(bytes((11, 0, 64, 1))), "too long"),
        (record(bytes((1, 255, 255, 255))), "too long"),
        (b"\x17\x03\x03\0\1x", "not a record"),
        (b"GET / HTTP/1.1\r\n", "not a record"),
        (b"\x80\x2e\x01\x03\x01", "not a record"),
        (b"\x16\x03\x03\x40\x01", "not a record"),
    ],
)
def test_what_is_no_chain_of_certificates_is_refused(wire: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        feed(wire() if callable(wire) else bytes(wire))  # type: ignore[call-overload]


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=200))
def test_any_bytes_end_in_silence_or_a_value_error(pieces: list[bytes], body: bytes) -> None:
    for flight in (pieces, [record(certificates([body])), *pieces], [record(body), *pieces]):
        try:
            feed(*flight)
        except ValueError:
            continue


@given(st.lists(st.integers(0, 4000), max_size=12))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    flight = record(certificates([client()])) + record(certificates([hostile()]))
    edges = [0, *sorted(cuts), len(flight)]
    chain = ClientChain()
    with pytest.raises(ValueError, match="exponent"):
        for start, end in itertools.pairwise(edges):
            chain.feed(flight[start:end])


@pytest.mark.parametrize("chain", [[client], [hostile], [hostile, client], []])
@pytest.mark.parametrize("library", TLS_LIBRARIES)
def test_certificates_that_nobody_asked_for_end_the_handshake(
    monkeypatch: pytest.MonkeyPatch, library: str, chain: list[Callable[[], bytes]]
) -> None:
    """Also before the server has answered: none of the libraries waits to be asked."""
    monkeypatch.setattr("tests.unit.app.server.clients.LIBRARY", library)
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for is_early in (False, True):
        channel = endpoint().channel()
        flight = record(certificates([make() for make in chain]))
        channel.feed(client_hello(context) + (flight if is_early else b""))
        with pytest.raises(TlsError):
            channel.handshake()
            channel.feed(flight)
            channel.handshake()
        assert channel.peer_fingerprint is None
