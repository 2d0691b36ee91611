"""Framing: what is refused, what is found, and that cuts in the stream change nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.server.framing import FramingError, Head, json_answer, scan

GOOD = b"POST /x?y=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


def refused(data: bytes, **limits: int) -> FramingError:
    with pytest.raises(FramingError) as caught:
        scan(data, **limits)
    return caught.value


def test_finds_the_head_and_the_body_length() -> None:
    head = scan(GOOD)
    assert head == Head(
        headers=((b"host", b"h"), (b"content-length", b"5")),
        consumed_bytes=len(GOOD) - 5,
        body_bytes=5,
        method=b"POST",
        target=GOOD.split()[1],
        minor_version=1,
        authorization=None,
        expects_continue=False,
        keep_alive=True,
        host=b"h",
        origin=None,
        fetch_site=None,
        content_type=None,
    )


@pytest.mark.parametrize("size", range(len(GOOD) - 5))
def test_an_incomplete_head_waits(size: int) -> None:
    assert scan(GOOD[:size]) is None


def test_one_empty_line_before_a_request_is_ignored() -> None:
    head = scan(b"\r\n" + GOOD)
    assert head is not None
    assert head.consumed_bytes == len(GOOD) - 5 + 2
    assert refused(b"\r\n\r\n" + GOOD).status == 400


def lines(*headers: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    return b"\r\n".join([first, *([b"Host: h"] if host else []), *headers, b"", b""])


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (lines(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400, "not both"),
        (lines(b"Content-Length: 1", b"Content-Length: 1"), 400, "once"),
        (lines(b"Content-Length: 1, 1"), 400, "digits"),
        (lines(b"Content-Length: +1"), 400, "digits"),
        (lines(b"Content-Length: 0x1"), 400, "digits"),
        (lines(b"Content-Length: -1"), 400, "digits"),
        (lines(b"Content-Length: 1_0"), 400, "digits"),
        (lines(b"Content-Length:"), 400, "digits"),
        (lines("Content-Length: ٣".encode()), 400, "digits"),
        (lines(b"Content-Length: 33554433"), 413, "33554432"),
        (lines(b"Content-Length: " + b"9" * 5000), 413, "33554432"),
        (lines(b"Transfer-Encoding: chunked"), 411, "send Content-Length"),
        (lines(b"Transfer-Encoding: identity"), 411, "send Content-Length"),
        (lines(b"A: b\nC: d"), 400, "LF"),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400, "LF"),
        (lines(b"A: b", b" folded"), 400, "continue"),
        (lines(b"A: b", b"\tfolded"), 400, "continue"),
        (lines(b"A: b\0c"), 400, "control"),
        (lines(b"A: b\rc"), 400, "control"),
        (lines(b"A: b\x7fc"), 400, "control"),
        (lines(b"A\0: b"), 400, "name"),
        (lines(b": b"), 400, "name"),
        (lines(b"no colon here"), 400, "colon"),
        (lines(b"Content-Length : 5"), 400, "blank"),
        (lines(b"Content_Length: 5"), 400, "underscore"),
        (lines(host=False), 400, "Host"),
        (lines(b"Host: other"), 400, "once"),
        (lines(b"Authorization: a", b"authorization: b"), 400, "once"),
        (lines(b"Expect: 200-ok"), 417, "100-continue"),
        (lines(first=b"GET / HTTP/2.0"), 505, "HTTP/1.1"),
        (lines(first=b"GET / HTTP/1.2"), 505, "HTTP/1.1"),
        (lines(first=b"GET / HTTP/0.9"), 505, "HTTP/1.1"),
        (lines(first=b"PRI * HTTP/2.0", host=False), 505, "HTTP/1.1"),
        (lines(first=b"GET / HTTP/1.10"), 400, "METHOD"),
        (lines(first=b"GET / http/1.1"), 400, "METHOD"),
        (lines(first=b"get / HTTP/1.1"), 400, "METHOD"),
        (lines(first=b"GET  / HTTP/1.1"), 400, "METHOD"),
        (lines(first=b"GET /a b HTTP/1.1"), 400, "METHOD"),
        (lines(first=b"GET /\0 HTTP/1.1"), 400, "METHOD"),
        (lines(first=b"GET"), 400, "METHOD"),
        (lines(first=b"GET http://other/ HTTP/1.1"), 400, "path"),
        (lines(first=b"GET //other/ HTTP/1.1"), 400, "path"),
        (lines(first=b"GET //[ HTTP/1.1"), 400, "path"),
        (lines(first=b"CONNECT other:443 HTTP/1.1"), 400, "path"),
        (lines(first=b"GET /#part HTTP/1.1"), 400, "path"),
        (b"GET /" + b"a" * 20000, 431, "16384"),
        (lines(b"A: " + b"b" * 20000), 431, "16384"),
    ],
)
def test_refuses(data: bytes, status: int, word: str) -> None:
    error = refused(data)
    assert error.status == status
    assert word in error.reason


def test_limits_are_exact() -> None:
    size = len(GOOD) - 5
    assert scan(GOOD, max_head_bytes=size, max_body_bytes=5) is not None
    assert refused(GOOD, max_head_bytes=size - 1).status == 431
    assert refused(GOOD, max_body_bytes=4).status == 413


def test_http_1_0_needs_no_host_and_closes_unless_asked() -> None:
    plain = scan(lines(first=b"GET / HTTP/1.0", host=False))
    assert plain is not None
    assert not plain.keep_alive
    kept = scan(lines(b"Connection: Keep-Alive", first=b"GET / HTTP/1.0"))
    assert kept is not None
    assert kept.keep_alive


@pytest.mark.parametrize("value", [b"close", b"Close", b"TE, close", b"close , te"])
def test_close_is_found_however_it_is_written(value: bytes) -> None:
    head = scan(lines(b"Connection: " + value))
    assert head is not None
    assert not head.keep_alive


def test_expect_is_taken_out_so_that_nobody_answers_it_twice() -> None:
    head = scan(lines(b"eXpect: 100-Continue", b"Content-Length: 3"))
    assert head is not None
    assert head.expects_continue
    assert head.headers == ((b"host", b"h"), (b"content-length", b"3"))


def test_http_1_0_never_gets_100_continue() -> None:
    head = scan(lines(b"Expect: 100-continue", first=b"POST / HTTP/1.0"))
    assert head is not None
    assert not head.expects_continue


def outcome(data: bytes) -> Head | tuple[int, str] | None:
    try:
        return scan(data, max_head_bytes=200, max_body_bytes=1000)
    except FramingError as error:
        return error.status, error.reason


def outcome_in_pieces(data: bytes, cuts: list[int]) -> Head | tuple[int, str] | None:
    inbox = bytearray()
    edges = sorted({cut % (len(data) + 1) for cut in cuts})
    for start, end in zip([0, *edges], [*edges, len(data)], strict=True):
        inbox += data[start:end]
        result = outcome(bytes(inbox))
        if result is not None:
            return result
    return None


fragments = st.lists(
    st.sampled_from(
        [
            *(b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r"),
            *(b"Host: h", b"Content-Length: 5", b"Transfer-Encoding: chunked", b" ", b":", b"\0"),
            *(b"Expect: 100-continue", b"Connection: close", b"x" * 150, b"HTTP/3.0", b"A: b"),
        ]
    ),
    max_size=14,
).map(b"".join)


@given(fragments | st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=8))
def test_cuts_change_nothing_and_hostile_bytes_give_only_our_error(
    data: bytes, cuts: list[int]
) -> None:
    assert outcome_in_pieces(data, cuts) == outcome(data)


def test_an_json_answer_is_json_and_closes() -> None:
    head, _, body = json_answer(413, 'too "big"', "S/1").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert body == b'{"error":"too \\"big\\""}\n'
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    assert b"Server: S/1" in head
    assert json_answer(503, "busy", "S/1", head_only=True).endswith(b"\r\n\r\n")
