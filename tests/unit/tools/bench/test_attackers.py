"""Attackers do what they are named for, go on until they are stopped, and count what they saw."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import repeat
from ssl import SSLContext

import pytest

from app.access.admission import Gate
from app.access.policy import Policy
from app.server.server import ApplianceServer
from app.tensors import TensorSpec
from tests.unit.app.server.clients import (
    WATCHDOG_S,
    Application,
    assert_serves,
    identity,
    serving,
    until,
)
from tools.bench import acts, attackers, hostile
from tools.bench.acts import Act, Hold, Line
from tools.bench.attackers import ATTACKS, attack, source_of
from tools.bench.client import Endpoint
from tools.bench.hostile import Target
from tools.serving_client import Trust

TARGET = Target("m", (TensorSpec("x", "float32", (1, 4)),), "token", ("ally",))
FEW = 4
TRUST = Trust(ca_text=identity().certificate_pem.decode())


@pytest.fixture
def server() -> Iterator[ApplianceServer]:
    with serving(Application()) as found:
        yield found


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = [replace(each, connections=FEW, patience_s=0.1) for each in ATTACKS]
    monkeypatch.setattr(attackers, "ATTACKS", fewer)
    monkeypatch.setattr(acts, "BYTE_EVERY_S", 0.01)


def seen_by(server: ApplianceServer, name: str) -> Counter[str]:
    """Attacks until every attacker has seen something twice."""
    stop = threading.Event()
    endpoint = Endpoint(f"https://localhost:{server.address[1]}", TRUST)
    timer = threading.Timer(0.5, stop.set)
    number = next(n for n, each in enumerate(ATTACKS) if each.name == name)
    found = attack(timer.start, stop, number, endpoint, TARGET)
    timer.join()
    return found


@pytest.mark.parametrize(
    "name", ["smuggled headers", "1 GB bodies", "vanishing clients", "health requests"]
)
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
    assert found.keys() <= {"408", acts.CLOSED, acts.SILENT}
    assert server.front.counters.handshakes >= FEW
    until(lambda: server.front.connections == 0)


def test_pipelined_refusals_are_many_answers_on_few_connections() -> None:
    with serving(Application(), gate=Gate(Policy(()))) as server:
        found = seen_by(server, "pipelined 401s")
        assert found.keys() <= {"401", acts.CLOSED, acts.REFUSED}
        assert found["401"] > server.front.counters.handshakes, "nobody waits for an answer"
        until(lambda: server.front.connections == 0)


def test_nobody_there_is_counted() -> None:
    stop = threading.Event()
    endpoint = Endpoint("https://localhost:9", Trust())
    found = attack(stop.set, stop, 0, endpoint, TARGET)
    assert found.keys() == {acts.REFUSED}


def line_to(port: int, context: SSLContext | None = None) -> Line:
    """Gives the first attacker's way to a port."""
    endpoint = Endpoint(f"https://localhost:{port}", TRUST)
    trusting = context or TRUST.context()
    return Line(endpoint, trusting, threading.Event(), Counter(), 0, source_of(0, 1), WATCHDOG_S)


def acting(act: Act, line: Line, message: bytes) -> Iterator[None]:
    """Lets one attacker act, step by step."""
    return act(line, repeat(message))


def test_who_holds_a_body_goes_on_with_it(server: ApplianceServer) -> None:
    line = line_to(server.address[1])
    head = hostile.anonymous("POST /echo", "Content-Length: 1000")
    holding = acting(Hold(bytes_per_s=2000), line, head)
    for _ in range(10):
        next(holding)
    assert server.front.counters.handshakes == 1
    assert not line.seen, "20 bytes at a time, the body is far from complete"
    until(lambda: server.front.buffered_bytes > 0)
    del holding
    until(lambda: server.front.connections == 0)


def test_who_holds_a_body_counts_the_answer_and_comes_again(server: ApplianceServer) -> None:
    line = line_to(server.address[1])
    holding = acting(Hold(bytes_per_s=0), line, hostile.anonymous("PUT"))
    for _ in range(3):
        next(holding)
    assert line.seen == {"400": 3}


def test_who_sips_leaves_most_of_the_answer_untaken(server: ApplianceServer) -> None:
    line = line_to(server.address[1])
    sipping = acting(acts.sip, line, hostile.anonymous("GET /down/30000000"))
    for _ in range(3):
        next(sipping)
    assert line.seen == {"200": 1}, "one status, however many pieces"
    assert server.front.connections == 1
    del sipping
    until(lambda: server.front.connections == 0)


def test_churning_clients_never_come_from_an_address_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WATCHDOG_S)
        churning = acting(acts.churn, line_to(listener.getsockname()[1]), b"")
        hosts = set()
        for _ in range(FEW):
            next(churning)
            arrived, (host, _port) = listener.accept()
            arrived.close()
            hosts.add(ip_address(host))
    assert len(hosts) == FEW
    assert all(host in ip_network("127.16.0.0/16") for host in hosts)


def test_attackers_come_from_as_many_addresses_as_said_and_never_the_quiet_one() -> None:
    for each in ATTACKS:
        sources = {source_of(place, each.addresses) for place in range(each.connections)}
        assert len(sources) == min(each.addresses, each.connections)
        assert "127.0.0.1" not in sources


def test_every_act_is_used_and_every_name_is_one() -> None:
    used = {each.act for each in ATTACKS if not isinstance(each.act, Hold)}
    written = {acts.ask, acts.leave, acts.drip, acts.stall}
    assert used == written | {acts.churn, acts.pipeline, acts.present, acts.sip}
    assert any(isinstance(each.act, Hold) for each in ATTACKS)
    assert len({each.name for each in ATTACKS}) == len(ATTACKS)
    assert not [each.name for each in ATTACKS if "," in each.name], "commas part names"
