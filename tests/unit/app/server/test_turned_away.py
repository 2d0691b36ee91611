"""A request that isn't let in is answered at once; nothing is set aside, the next one is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.access.admission import Gate
from app.access.policy import Quotas
from app.server.connection import Phase
from tests.policies import bearer, policy, tenant
from tests.unit.app.server.clients import request_bytes
from tests.unit.app.server.test_connection import LIMITS, Bench, error_of

CLINIC, TOKEN = tenant(quotas=Quotas(concurrent=1))
INFER = "/v2/models/m/infer"


def bench() -> Bench:
    found = Bench(gate=Gate(policy(CLINIC)))
    found.open()
    return found


def turned_away(found: Bench) -> bytes:
    """Gives the answer; nothing was set aside for the request, and no worker gets it."""
    connection = found.connection
    assert connection.take_request() is None
    assert found.room.used == 0
    return found.flush()


def test_the_answer_comes_before_the_body() -> None:
    found = bench()
    found.connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", 0)
    answer = turned_away(found)
    assert error_of(answer)[0] == 401
    assert b"\r\nWWW-Authenticate: Bearer\r\n" in answer
    assert b"Connection: close" not in answer
    assert found.connection.phase is Phase.IDLE


@pytest.mark.parametrize("step", [1, 7, 100, 5000])
def test_the_body_of_a_refused_request_is_not_read_as_a_request(step: int) -> None:
    """Smuggling: what looks like a request in it, with a right token, isn't one."""
    found = bench()
    inner = request_bytes("GET", "/smuggled", **bearer(TOKEN))
    refused = request_bytes("POST", INFER, inner)
    sent = refused + request_bytes("GET", "/wanted", **bearer(TOKEN))
    answers = b""
    for start in range(0, len(sent), step):
        found.connection.receive(sent[start : start + step], 0)
        while found.connection.phase is Phase.ANSWER:
            answers += found.flush()
            found.connection.advance(0)
    assert error_of(answers)[0] == 401
    assert found.take().head.target == b"/wanted"


def test_an_answer_is_taken_from_the_quota_of_bytes() -> None:
    """Its tenant's next request waits, on whatever connection; other tenants' don't."""
    limited, token = tenant("limited", quotas=Quotas(bytes_per_s=1000))
    other, other_token = tenant("other", quotas=Quotas(bytes_per_s=1000))
    gate = Gate(policy(limited, other))
    asked = request_bytes("GET", "/v2", **bearer(token))
    first, second = Bench(gate=gate), Bench(gate=gate)
    first.open().receive(asked, 0)
    request = first.take()
    request.release(first.room)
    first.connection.answer([b"x" * 5000], True, 0)
    second.open().receive(asked, 1)
    answer = second.flush()
    assert error_of(answer) == (429, "the tenant's quota 'bytes_per_s' is used up, try again")
    assert b"\r\nRetry-After: 4\r\n" in answer
    second.connection.receive(request_bytes("GET", "/v2", **bearer(other_token)), 1)
    second.take()
    first.flush()
    first.connection.receive(asked, 6)
    first.take()


def test_the_skipped_body_takes_no_memory() -> None:
    found = bench()
    found.connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", 0)
    found.flush()
    for _ in range(10):
        found.connection.receive(bytes(100), 1)
        assert found.room.used == 0
        assert found.connection.phase is Phase.IDLE
    found.connection.receive(request_bytes("GET", "/next", **bearer(TOKEN)), 2)
    assert found.take().head.target == b"/next"


def test_a_body_that_never_comes_ends_with_the_connection_s_idle_time() -> None:
    found = bench()
    found.connection.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n", 0)
    found.flush()
    found.connection.receive(b"x", 70)
    assert found.connection.deadline == LIMITS.keep_alive_s, "a drop of it buys no time"


@pytest.mark.parametrize(
    "more", [{"Connection": "close"}, {"Expect": "100-continue"}, {"Content_Length": "900"}]
)
def test_where_the_body_may_be_large_or_left_out_the_connection_closes(
    more: dict[str, str],
) -> None:
    found = Bench(replace(LIMITS, max_skipped_bytes=500), Gate(policy(CLINIC)))
    found.open().receive(request_bytes("POST", INFER, **({"Content_Length": "9"} | more)), 0)
    answer = turned_away(found)
    assert b"100 Continue" not in answer
    assert b"Connection: close" in answer
    assert answer.endswith(b"BYE")
    found.connection.receive(request_bytes("GET", "/late", **bearer(TOKEN)), 0)
    assert found.connection.take_request() is None


def test_head_gets_no_body_with_its_refusal() -> None:
    found = bench()
    found.connection.receive(request_bytes("HEAD", "/v2"), 0)
    answer = turned_away(found)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_token_goes_no_further_than_the_gate() -> None:
    found = bench()
    found.connection.receive(request_bytes("GET", "/v2", X_Kept="1", **bearer(TOKEN)), 0)
    request = found.take()
    assert (b"x-kept", b"1") in request.head.headers
    assert TOKEN not in repr(request.head.headers)
    assert request.admission is not None
    assert request.client == "clinic"


def test_a_certificate_that_tls_has_seen_is_enough() -> None:
    known, _ = tenant("known", certificates=("ab" * 32,))
    found = Bench(gate=Gate(policy(known)))
    connection = found.open()
    found.channel.peer_fingerprint = "ab" * 32
    connection.receive(request_bytes("GET", "/v2"), 0)
    assert found.take().client == "known"


def test_a_request_that_never_becomes_whole_gives_its_place_back() -> None:
    gate = Gate(policy(CLINIC))
    slow, other = Bench(gate=gate), Bench(gate=gate)
    half = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nAuthorization: Bearer "
    slow.open().receive(half + TOKEN.encode() + b"\r\n\r\nabc", 0)
    asked = request_bytes("GET", "/v2", **bearer(TOKEN))
    other.open().receive(asked, 0)
    assert error_of(turned_away(other))[0] == 429
    slow.connection.expire(slow.connection.deadline)
    assert error_of(slow.flush())[0] == 408
    other.connection.receive(asked, 1)
    request = other.take()
    other.connection.drop()
    assert request.abandoned
    third = Bench(gate=gate)
    third.open().receive(asked, 2)
    assert error_of(turned_away(third))[0] == 429, "the worker hasn't ended it yet"
    request.release(other.room)
    request.release(other.room)
    third.connection.receive(asked, 3)
    assert third.take().client == "clinic"
