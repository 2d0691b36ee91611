"""Attackers do what they are named for, go on until they are stopped, and count what they saw."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.server.server import ApplianceServer
from app.tensors import TensorSpec
from tests.unit.app.server.clients import Application, assert_serves, identity, serving, until
from tools.bench import attackers
from tools.bench.attackers import ATTACKS, Manner, attack
from tools.bench.client import Endpoint
from tools.bench.hostile import Target
from tools.serving_client import Trust

TARGET = Target("m", (TensorSpec("x", "float32", (1, 4)),), "token")
FEW = 4


@pytest.fixture
def server() -> Iterator[ApplianceServer]:
    with serving(Application()) as found:
        yield found


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attackers, "ATTACKS", [replace(each, connections=FEW) for each in ATTACKS])
    monkeypatch.setattr(attackers, "BYTE_EVERY_S", 0.01)
    monkeypatch.setattr(attackers, "PATIENCE_S", 0.1)


def seen_by(server: ApplianceServer, name: str) -> Counter[str]:
    """Attacks until every attacker has seen something twice."""
    stop = threading.Event()
    endpoint = Endpoint(
        f"https://localhost:{server.address[1]}", Trust(ca_text=identity().certificate_pem.decode())
    )
    timer = threading.Timer(0.5, stop.set)
    number = next(n for n, each in enumerate(ATTACKS) if each.name == name)
    found = attack(timer.start, stop, number, endpoint, TARGET)
    timer.join()
    return found


@pytest.mark.parametrize("name", ["smuggled headers", "1 GB bodies", "vanishing clients"])
def test_a_right_server_gives_right_answers_only(server: ApplianceServer, name: str) -> None:
    found = seen_by(server, name)
    (right,) = (each.right for each in ATTACKS if each.name == name)
    assert found.keys() <= right | attackers.ALWAYS_RIGHT
    assert found.total() > FEW, "they go on"
    until(lambda: server.front.connections == 0)
    assert_serves(server)


def test_stalled_handshakes_are_never_finished(server: ApplianceServer) -> None:
    seen_by(server, "unfinished handshakes")
    assert server.front.counters.handshakes == 0
    until(lambda: server.front.connections == 0)


def test_a_byte_per_second_is_no_request(server: ApplianceServer) -> None:
    found = seen_by(server, "a byte per second")
    assert found.keys() <= {"408", attackers.CLOSED, attackers.SILENT}
    assert server.front.counters.handshakes >= FEW
    until(lambda: server.front.connections == 0)


def test_nobody_there_is_counted() -> None:
    stop = threading.Event()
    endpoint = Endpoint("https://localhost:9", Trust())
    found = attack(stop.set, stop, 0, endpoint, TARGET)
    assert found.keys() == {attackers.REFUSED}


def test_every_manner_is_used_and_every_name_is_one() -> None:
    assert {each.manner for each in ATTACKS} == set(Manner)
    assert len({each.name for each in ATTACKS}) == len(ATTACKS)
