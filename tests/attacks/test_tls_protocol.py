"""What TLS itself may be talked into: old versions, weak suites, renegotiation, compression.

Mostly with the real openssl command as the client, on both libraries.
"""

from __future__ import annotations

import re
import ssl
import subprocess

import pytest

from app.server.server import ApplianceServer
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    assert_serves,
    client_context,
    client_hello,
    request_bytes,
    tcp,
)

ANY_SUITE = ("-cipher", "ALL:@SECLEVEL=0")
NOTHING = "Cipher is (NONE)"
HANDSHAKE = 22


def s_client(server: ApplianceServer, *options: str, typed: bytes = b"") -> str:
    host, port = server.address
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", *options],
        input=typed,
        capture_output=True,
        check=False,
        timeout=WATCHDOG_S,
    )
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(server: ApplianceServer, option: str) -> None:
    assert NOTHING in s_client(server, option, *ANY_SUITE)
    assert_serves(server)


def test_1_2_is_served_and_1_3_where_the_library_has_it(
    server: ApplianceServer, tls_library: str
) -> None:
    assert "Protocol  : TLSv1.2" in s_client(server, "-tls1_2")
    newest = s_client(server, "-tls1_3")
    assert ("New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384" in newest) is (
        tls_library == "openssl"
    )
    assert (NOTHING in newest) is (tls_library == "mbedtls")


def test_no_hello_brings_a_server_to_an_older_version(server: ApplianceServer) -> None:
    """SSL 3.0 to TLS 1.1 asked for by number, as openssl itself can't speak the oldest any more."""
    hello = bytearray(old_hello())
    for version in (b"\3\0", b"\3\1", b"\3\2"):
        hello[1:3] = hello[9:11] = version
        assert first_record(server, bytes(hello)) != HANDSHAKE
    hello[1:3] = hello[9:11] = b"\3\3"
    assert first_record(server, bytes(hello)) == HANDSHAKE, "the hello itself is in order"
    assert_serves(server)


def test_a_client_that_fell_back_is_told_so(server: ApplianceServer, tls_library: str) -> None:
    """TLS_FALLBACK_SCSV: RFC 7507. Where 1.2 is the newest nobody can have fallen back."""
    shown = s_client(server, "-tls1_2", "-fallback_scsv")
    assert ("inappropriate fallback" in shown) is (tls_library == "openssl")


# --- suites --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suite",
    [
        "AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-CCM8",
        "DHE-RSA-AES128-GCM-SHA256",
        "kRSA",
        "aNULL",
        "eNULL",
        "PSK",
    ],
)
def test_weak_suites_are_refused(server: ApplianceServer, suite: str) -> None:
    assert NOTHING in s_client(server, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert_serves(server)


def test_the_server_prefers_whatever_the_client_does(server: ApplianceServer) -> None:
    worst_first = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    shown = s_client(server, "-tls1_2", "-cipher", worst_first)
    assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in shown


# --- renegotiation, compression, early data ------------------------------------------------------


def test_renegotiation_is_refused(server: ApplianceServer) -> None:
    shown = s_client(server, "-tls1_2", typed=b"R\n")
    assert "Secure Renegotiation IS supported" in shown  # RFC 5746, without which clients worry
    assert "RENEGOTIATING" in shown
    assert "no renegotiation" in shown
    assert_serves(server)


def test_compression_is_not_chosen_when_it_is_offered(server: ApplianceServer) -> None:
    hello = old_hello()
    at = 9 + 2 + 32
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # suites
    assert hello[at : at + 2] == b"\1\0", "one method, null"
    body = hello[9:at] + b"\2\1\0" + hello[at + 2 :]  # deflate, null
    record = b"\1" + len(body).to_bytes(3, "big") + body
    with tcp(server) as client:
        client.sendall(b"\x16\3\3" + len(record).to_bytes(2, "big") + record)
        answer = client.recv(4096)
    assert answer[0] == HANDSHAKE
    method = 9 + 2 + 32 + 1 + answer[9 + 2 + 32] + 2
    assert answer[method] == 0
    assert "Compression: NONE" in s_client(server, "-comp")


def test_tickets_invite_no_early_data(server: ApplianceServer, tls_library: str) -> None:
    """It could be replayed by whoever recorded it."""
    asked = request_bytes("GET", "/environ", Connection="close")
    shown = s_client(server, "-ign_eof", typed=asked)
    assert ("Max Early Data: 0" in shown) is (tls_library == "openssl")
    assert shown.count("Max Early Data:") == shown.count("Max Early Data: 0")


# --- resumption and ALPN -------------------------------------------------------------------------


def test_resumption(server: ApplianceServer, tls_library: str) -> None:
    shown = s_client(server, "-tls1_2", "-reconnect")
    assert shown.count("Reused, TLSv1.2") == (5 if tls_library == "openssl" else 0)
    assert shown.count("New, TLSv1.2") == (1 if tls_library == "openssl" else 6)


def test_alpn(server: ApplianceServer, tls_library: str) -> None:
    assert "ALPN protocol: http/1.1" in s_client(server, "-alpn", "h2,http/1.1")
    shown = s_client(server, "-alpn", "h2")
    assert "ALPN protocol:" not in shown
    assert ("no application protocol" in shown) is (tls_library == "mbedtls")


# --- raw bytes -----------------------------------------------------------------------------------


def old_hello() -> bytes:
    """One record with the hello of a client that speaks TLS 1.2 at most."""
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return client_hello(context)


def first_record(server: ApplianceServer, hello: bytes) -> int | None:
    """The type of what the server answers with, None when it just closes."""
    with tcp(server) as client:
        client.sendall(hello)
        try:
            answer = client.recv(1)
        except ConnectionError:
            return None
    return answer[0] if answer else None


def test_the_curve_that_takes_least_is_preferred(server: ApplianceServer) -> None:
    """A client that has them all doesn't make the server compute on the largest one."""
    assert re.search("Temp Key: (ECDH, prime256v1|X25519)", s_client(server, "-tls1_2"))
    assert_serves(server)
