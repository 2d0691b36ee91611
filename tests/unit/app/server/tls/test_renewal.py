"""Certificates that change while the server runs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.limits import TICKET_KEY_S
from app.server.certificate import ServerIdentity, load_client_ca, load_identity
from app.server.tls.channel import Channel
from app.server.tls.libraries import LIBRARIES
from app.server.tls.renewal import LOOK_S, Material, RenewedEndpoint
from tests.unit.app.server.clients import (
    Application,
    Client,
    PlainChannel,
    client_context,
    identity,
    new_identity,
    now,
    rsa_identity,
    serving,
)
from tests.unit.app.server.tls.pair import Wire


@dataclass
class World:
    """Files, a clock and a library that only notes what it is given."""

    folder: Path
    time_s: float = 100.0
    made: list[ServerIdentity] = field(default_factory=list)
    trusted: list[bytes | None] = field(default_factory=list)
    refuses: bool = False

    @property
    def files(self) -> list[Path]:
        return [self.folder / name for name in ("server.crt", "server.key", "clients.crt")]

    def write(self, certificate: ServerIdentity, key: ServerIdentity | None = None) -> None:
        replace(self.files[0], certificate.certificate_pem)
        replace(self.files[1], (key or certificate).private_key_pem)

    def load(self) -> Material:
        loaded = load_identity(self.files[0], self.files[1], now())
        return Material(loaded, load_client_ca(self.files[2]))

    def make(self, found: ServerIdentity, client_ca_pem: bytes | None) -> World:
        if self.refuses:
            raise ConfigError("TLS certificate", ["refused"])
        self.made.append(found)
        self.trusted.append(client_ca_pem)
        return self

    def channel(self) -> Channel:
        return PlainChannel()

    def endpoint(self) -> RenewedEndpoint:
        return RenewedEndpoint(self.make, self.load, self.files, lambda: self.time_s)

    def later(self, endpoint: RenewedEndpoint, seconds: float = LOOK_S) -> None:
        self.time_s += seconds
        endpoint.channel()


def replace(path: Path, content: bytes) -> None:
    """Writes beside and renames, as those who renew certificates do."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.write(identity())
    replace(made.files[2], identity().certificate_pem)
    return made


def fingerprints(world: World) -> list[str]:
    return [each.fingerprint for each in world.made]


def both(world: World) -> tuple[str, str]:
    world.write(rsa_identity())
    other = world.load().identity.fingerprint
    world.write(identity())
    return identity().fingerprint, other


def test_files_that_stay_are_loaded_once(world: World) -> None:
    endpoint = world.endpoint()
    for _ in range(5):
        world.later(endpoint)
    assert fingerprints(world) == [identity().fingerprint]


def test_new_files_are_used_for_new_connections(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new = both(world)
    endpoint = world.endpoint()
    world.write(rsa_identity())
    endpoint.channel()
    assert endpoint.identity.fingerprint == old, "it is too early to look"
    world.later(endpoint)
    assert endpoint.identity.fingerprint == new
    assert fingerprints(world) == [old, new]
    assert new in caplog.text
    assert rsa_identity().private_key_pem.decode().splitlines()[1] not in caplog.text


def test_files_written_in_place_are_noticed_too(world: World) -> None:
    old, new = both(world)
    endpoint = world.endpoint()
    world.files[0].write_bytes(rsa_identity().certificate_pem)
    world.files[1].write_bytes(rsa_identity().private_key_pem)
    world.later(endpoint)
    assert fingerprints(world) == [old, new]


def test_one_of_two_files_is_not_enough(world: World, caplog: pytest.LogCaptureFixture) -> None:
    old, new = both(world)
    endpoint = world.endpoint()
    world.write(rsa_identity(), key=identity())
    world.later(endpoint)
    assert endpoint.identity.fingerprint == old
    assert "isn't the key of the certificate" in caplog.text
    world.write(rsa_identity())
    world.later(endpoint)
    assert fingerprints(world) == [old, new]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda world: replace(world.files[0], b"nonsense"),
        lambda world: replace(world.files[1], b""),
        lambda world: world.files[0].unlink(),
        lambda world: replace(world.files[2], b"-----BEGIN CERTIFICATE-----"),
        lambda world: world.files[2].unlink(),
    ],
)
def test_what_cannot_be_used_is_logged_once_and_changes_nothing(
    world: World, spoil: Callable[[World], None], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = world.endpoint()
    spoil(world)
    for _ in range(4):
        world.later(endpoint)
    assert fingerprints(world) == [identity().fingerprint]
    assert len(caplog.records) == 1
    assert str(world.folder) in caplog.text


def test_what_the_library_refuses_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = world.endpoint()
    world.refuses = True
    world.write(rsa_identity())
    world.later(endpoint)
    world.later(endpoint)
    assert endpoint.identity.fingerprint == identity().fingerprint
    assert len(caplog.records) == 1


def test_other_trusted_clients_count_from_then_on(world: World) -> None:
    endpoint = world.endpoint()
    replace(world.files[2], rsa_identity().certificate_pem)
    world.later(endpoint)
    assert world.trusted == [identity().certificate_pem, rsa_identity().certificate_pem]


def test_ticket_keys_are_given_up_in_time(world: World, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = world.endpoint()
    world.later(endpoint, TICKET_KEY_S - 1)
    assert len(world.made) == 1
    world.later(endpoint, 1)
    assert fingerprints(world) == [identity().fingerprint] * 2
    world.refuses = True
    world.later(endpoint, TICKET_KEY_S)
    world.later(endpoint)
    assert len(caplog.records) == 1, "what fails is tried again after the same time"


def test_files_that_cannot_be_used_at_start_are_an_error(world: World) -> None:
    world.files[2].unlink()
    with pytest.raises(ConfigError, match=r"clients\.crt"):
        world.endpoint()
    assert not world.made


def test_an_open_connection_outlives_its_certificate(world: World, wire: Wire) -> None:
    """For real: clients that trust only one of two certificates, and one server."""
    renewed = new_identity()
    old, new = client_context(identity()), client_context(renewed)
    endpoint = RenewedEndpoint(
        LIBRARIES[wire.library],
        lambda: Material(load_identity(world.files[0], world.files[1], now())),
        world.files[:2],
        lambda: world.time_s,
    )
    with serving(Application(), tls=endpoint) as server, Client(server.address, old) as early:
        assert early.ask("GET", "/echo").status == 200
        world.write(renewed)
        world.time_s += LOOK_S
        with Client(server.address, new) as late:
            assert late.ask("GET", "/echo").status == 200
        assert early.ask("GET", "/echo").status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(server.address, old)
