"""Client certificates: who proves nothing, or the wrong thing, gets no name."""

from __future__ import annotations

import gc
import ssl
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from app.server.tls.channel import ChannelState, TlsError
from tests.unit.app.server.clients import endpoint, now
from tests.unit.app.server.tls.issued import DAY, Issued, issue
from tests.unit.app.server.tls.pair import Pair, Wire, open_pair

pytestmark = pytest.mark.usefixtures("wire")

CA = issue("ca", is_ca=True)


def assert_refused(pair: Pair) -> None:
    with pytest.raises((TlsError, ssl.SSLError)):
        pair.shake()
    assert pair.server.state is not ChannelState.OPEN
    assert pair.server.peer_fingerprint is None
    if pair.server.state is ChannelState.FAILED:
        pair.to_client.write(pair.server.take_ciphertext())
    with pytest.raises(ssl.SSLError):
        pair.client.read(1)


def test_a_trusted_certificate_gives_its_fingerprint(tmp_path: Path) -> None:
    client = issue("client", CA)
    pair = Pair(client.context(tmp_path), client_ca_pem=CA.pem)
    assert pair.server.peer_fingerprint is None
    pair.shake()
    assert pair.server.peer_fingerprint == client.fingerprint
    assert pair.up(b"question") == b"question"
    assert pair.down(b"answer") == b"answer"


def test_an_intermediate_certificate_may_stand_between(tmp_path: Path) -> None:
    between = issue("between", CA, is_ca=True)
    client = issue("client", between)
    pair = open_pair(client.context(tmp_path, between), client_ca_pem=CA.pem)
    assert pair.server.peer_fingerprint == client.fingerprint


def test_a_self_signed_certificate_may_be_trusted_itself(tmp_path: Path) -> None:
    client = issue("client")
    pair = open_pair(client.context(tmp_path), client_ca_pem=CA.pem + client.pem)
    assert pair.server.peer_fingerprint == client.fingerprint


def test_several_certificates_may_be_trusted(tmp_path: Path) -> None:
    others = [issue("ca", is_ca=True), issue("another ca", is_ca=True)]
    trusted = b"".join(each.pem for each in (CA, *others))
    for issuer in (CA, *others):
        client = issue("client", issuer)
        pair = open_pair(client.context(tmp_path), client_ca_pem=trusted)
        assert pair.server.peer_fingerprint == client.fingerprint


def test_a_channel_outlives_its_endpoint(tmp_path: Path) -> None:
    """The library may point to what only the endpoint kept alive."""
    client = issue("client", CA)
    context = client.context(tmp_path)
    context.set_alpn_protocols(["http/1.1"])
    for _ in range(5):
        pair = Pair(context, client_ca_pem=issue("ca", is_ca=True).pem + CA.pem)
        gc.collect()
        for _ in range(3):
            endpoint(client_ca_pem=CA.pem)  # takes the memory that was given back
        pair.shake()
        assert pair.server.peer_fingerprint == client.fingerprint
        assert pair.client.selected_alpn_protocol() == "http/1.1"


def test_a_client_without_a_certificate_gets_in_without_a_name() -> None:
    pair = open_pair(client_ca_pem=CA.pem)
    assert pair.server.peer_fingerprint is None
    assert pair.up(b"question") == b"question"


def test_a_certificate_that_nobody_asked_for_gives_no_name(tmp_path: Path) -> None:
    pair = open_pair(issue("client", CA).context(tmp_path))
    assert pair.server.peer_fingerprint is None


@pytest.mark.parametrize(
    "client",
    [
        issue("self-signed"),
        issue("client", issue("ca", is_ca=True)),
        issue("expired", CA, end=now() - DAY),
        issue("server", CA, usage=ExtendedKeyUsageOID.SERVER_AUTH),
        issue("below a leaf", issue("client", CA)),
    ],
    ids=lambda issued: str(issued.certificate.subject.rfc4514_string()),
)
def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path, client: Issued) -> None:
    assert_refused(Pair(client.context(tmp_path), client_ca_pem=CA.pem))


def test_a_certificate_without_proof_of_its_key_is_refused(tmp_path: Path) -> None:
    context = issue("client", CA).context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones encrypt the proof
    pair = Pair(context, client_ca_pem=CA.pem)
    pair.cut = spoil_proof
    with pytest.raises(TlsError) as caught:
        pair.shake()
    assert "finished" not in str(caught.value).lower()
    assert pair.server.state is ChannelState.FAILED
    assert pair.server.peer_fingerprint is None


def spoil_proof(wire: bytes) -> list[bytes]:
    """Flips the last bit of the signature in CertificateVerify, a record of its own."""
    spoilt, at = bytearray(wire), 0
    while at < len(wire):
        end = at + 5 + int.from_bytes(wire[at + 3 : at + 5], "big")
        if wire[at] == 22 and wire[at + 5] == 15:
            spoilt[end - 1] ^= 1
        at = end
    return [bytes(spoilt)] if wire else []


def test_a_resumed_session_has_the_certificate_that_it_began_with(
    tmp_path: Path, wire: Wire
) -> None:
    client = issue("client", CA)
    context, tls = client.context(tmp_path), endpoint(client_ca_pem=CA.pem)
    first = open_pair(context, tls=tls)
    first.down(b"answer")
    second = open_pair(context, tls=tls, session=first.client.session)
    assert second.client.session_reused is (wire.library == "openssl")
    assert second.server.peer_fingerprint == client.fingerprint
