"""Hostile bytes are what their names say, or something else would be measured."""

from __future__ import annotations

import gzip
import json
import ssl
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from app.limits import MAX_BODY_BYTES, MIB
from app.tensors import TensorSpec
from tools.bench import hostile
from tools.bench.hostile import HEADER, Target

TARGET = Target("m", (TensorSpec("x", "float32", (1, 4)),), "cloister_token")


def parsed(message: bytes) -> tuple[dict[str, str], bytes]:
    """Cuts a request as a right server would: headers by name, and everything after them."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "POST /v2/models/m/infer HTTP/1.1"
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}, body


def test_what_they_differ_from_is_a_right_request() -> None:
    headers, body = parsed(TARGET.post(TARGET.json()))
    assert headers["Authorization"] == "Bearer cloister_token"
    assert int(headers["Content-Length"]) == len(body)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}
    assert json.loads(body) == {"inputs": [tensor]}


def test_odd_numbers_travel_as_bits() -> None:
    seen = []
    for message in hostile.odd_numbers(TARGET)[:4]:
        headers, body = parsed(message)
        cut = int(headers[HEADER])
        size = json.loads(body[:cut])["inputs"][0]["parameters"]["binary_data_size"]
        assert size == len(body) - cut
        seen += np.frombuffer(body[cut:], "<f4").tolist()[:1]
    assert np.isnan(seen[0])
    assert seen[1:3] == [np.inf, -np.inf]
    assert np.signbit(seen[3])
    assert all(
        word in message
        for word, message in zip(
            (b"NaN", b"-Infinity", b"1e999"), hostile.odd_numbers(TARGET)[4:], strict=True
        )
    )


def test_bombs_are_small_and_inflate_beyond_the_largest_body() -> None:
    small, other = (parsed(message) for message in hostile.bombs(TARGET))
    assert small[0]["Content-Encoding"] == "gzip"
    assert other[0]["Content-Encoding"] == "deflate"
    for body in (gzip.decompress(small[1]), zlib.decompress(other[1])):
        assert len(body) == hostile.BOMB_BYTES > MAX_BODY_BYTES
    assert len(small[1]) < MIB


@pytest.mark.parametrize("make", [hostile.smuggled, hostile.wrong_lengths, hostile.huge_bodies])
def test_lengths_are_not_those_of_what_follows(
    make: Callable[[Target], Sequence[bytes]],
) -> None:
    for message in make(TARGET):
        head, _, body = message.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        said = lengths[0].partition(b": ")[2] if len(lengths) == 1 else b""
        inner = HEADER.encode() in head
        odd = b"chunked" in head or b"folded" in head or b"\r\n" not in head
        assert odd or inner or said != str(len(body)).encode(), head


def test_shapes_overflow_and_json_is_deep_and_ids_are_long() -> None:
    assert all(np.prod([int(d) for d in shape], dtype=object) > 1 << 53 for shape in shapes())
    assert max(len(message) for message in hostile.nested(TARGET)) > 5 * hostile.DEPTH
    (long,) = hostile.long_ids(TARGET)
    assert len(json.loads(parsed(long)[1])["id"]) == MIB


def shapes() -> list[list[int]]:
    found = []
    for message in hostile.overflowing_shapes(TARGET):
        headers, body = parsed(message)
        end = int(headers.get(HEADER, len(body)))
        found.append(json.loads(body[:end])["inputs"][0]["shape"])
    return found


def test_half_a_handshake_is_half_of_a_real_one() -> None:
    hello = hostile.client_hello(ssl.create_default_context())
    assert hello[:2] == b"\x16\x03"
    assert int.from_bytes(hello[3:5], "big") == len(hello) - 5


def test_vanishing_clients_leave_at_different_places() -> None:
    whole = TARGET.post(TARGET.json())
    early, late, complete, unfinished = hostile.cut(TARGET)
    assert whole.startswith(early)
    assert whole.startswith(late)
    assert len(early) < whole.index(b"\r\n\r\n") < len(late) < len(complete)
    headers, body = parsed(unfinished)
    assert int(headers["Content-Length"]) > len(body)
