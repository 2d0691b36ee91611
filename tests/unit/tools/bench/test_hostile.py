"""Hostile bytes are what their names say, or something else would be measured."""

from __future__ import annotations

import gzip
import io
import json
import ssl
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from app.limits import (
    KIB,
    MAX_BODY_BYTES,
    MAX_BUFFERED_BYTES,
    MAX_JSON_BYTES,
    MAX_PICTURE_PIXELS,
    MAX_SCANNED_PIXELS,
    MIB,
)
from app.tensors import TensorSpec
from tools.bench import hostile
from tools.bench.hostile import BURST, HEADER, Target
from tools.bench.pictures import SCANS, noisy, progressive
from tools.bench.sites import HUNGRY, WIDE

TARGET = Target("m", (TensorSpec("x", "float32", (1, 4)),), "cloister_token", ("ally_token",))


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


def lines_of(message: bytes) -> tuple[str, dict[str, str], bytes]:
    """Cuts any request: its first line, its headers by name, and everything after them."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def test_bodies_on_open_paths_fill_the_room_without_credentials() -> None:
    declared = sent = 0
    methods = set()
    for message in hostile.bodies_on_open_paths(TARGET):
        first, headers, body = lines_of(message)
        methods.add(first.split()[0])
        assert "/v2/health/" in first
        assert "Authorization" not in headers
        assert int(headers["Content-Length"]) <= MAX_BODY_BYTES
        declared += int(headers["Content-Length"])
        sent += len(body)
    assert methods == {"POST", "GET", "HEAD"}
    assert MAX_BUFFERED_BYTES - MIB < declared < MAX_BUFFERED_BYTES
    assert sent < declared


def test_bodies_of_tenants_fill_the_room_with_credentials() -> None:
    messages = hostile.bodies_of_tenants(TARGET)
    tokens = [lines_of(message)[1]["Authorization"] for message in messages]
    assert tokens == ["Bearer cloister_token", "Bearer ally_token"]
    (declared,) = {int(lines_of(message)[1]["Content-Length"]) for message in messages}
    assert MAX_BUFFERED_BYTES - MIB < 12 * declared < MAX_BUFFERED_BYTES
    assert all(len(lines_of(message)[2]) < declared for message in messages)


def test_heads_without_bodies_wait_behind_those_that_fill_the_room() -> None:
    first, *others = hostile.waiting_bodies(TARGET)[2:]
    assert len(lines_of(first)[2]) > 20 * MIB
    assert set(others) == set(hostile.bodies_to_come(TARGET))
    assert lines_of(others[0])[2] == b""


def test_pipelined_requests_are_whole_and_many() -> None:
    (anonymous,), (known,) = hostile.refusals(TARGET), hostile.forbidden(TARGET)
    for burst, has_token in ((anonymous, False), (known, True)):
        one, *rest = burst.split(b"\r\n\r\n")[:-1]
        assert set(rest) == {one}
        assert len(rest) + 1 == BURST
        assert (b"Authorization: Bearer cloister_token" in one) is has_token


def test_health_needs_no_credentials() -> None:
    for message in hostile.health(TARGET):
        first, headers, body = lines_of(message)
        assert first.startswith("GET /v2/health/")
        assert headers == {"Host": "localhost"}
        assert body == b""


def test_a_picture_of_many_scans_is_small_and_within_limits() -> None:
    (message,) = hostile.many_scans(TARGET)
    first, headers, body = lines_of(message)
    assert first.startswith("POST /v1/models/m/classify ")
    assert int(headers["Content-Length"]) == len(body) < 100 * KIB
    with Image.open(io.BytesIO(body)) as picture:
        pixels = picture.width * picture.height
    scans = body.count(b"\xff\xda")
    assert scans == SCANS
    assert pixels <= MAX_PICTURE_PIXELS
    assert scans * pixels <= MAX_SCANNED_PIXELS
    with Image.open(io.BytesIO(progressive(64, 20))) as small:
        small.load()
        assert small.getextrema() == (128, 128), "a right picture, whatever its scans"


def test_an_ordinary_picture_is_too_large_for_one_piece() -> None:
    with Image.open(io.BytesIO(noisy())) as picture:
        assert picture.format == "PNG"
    assert 700 * KIB < len(noisy()) < MIB


def test_little_gzip_holds_the_largest_json() -> None:
    (message,) = hostile.json_bombs(TARGET)
    headers, body = parsed(message)
    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 8 * KIB
    content = gzip.decompress(body)
    assert MAX_JSON_BYTES - KIB < len(content) <= MAX_JSON_BYTES
    (tensor,) = json.loads(content)["inputs"]
    assert tensor["shape"] == [1, 4]
    assert len(tensor["data"]) > MIB


def test_large_answers_are_asked_of_the_wide_model_as_json_and_as_bytes() -> None:
    for make, is_binary in ((hostile.large_json_answers, False), (hostile.large_answers, True)):
        (message,) = make(TARGET)
        first, headers, body = lines_of(message)
        assert first.startswith(f"POST /v2/models/{WIDE}/infer ")
        assert int(headers["Content-Length"]) == len(body) <= MAX_BODY_BYTES
        request = json.loads(body[: int(headers[HEADER])])
        assert ("parameters" in request) is is_binary
        (tensor,) = request["inputs"]
        size = tensor["parameters"]["binary_data_size"]
        assert size == 4 * tensor["shape"][0] == len(body) - int(headers[HEADER])


def test_hungry_models_are_asked_in_turns() -> None:
    asked = [lines_of(message)[0].split()[1] for message in hostile.in_turns(TARGET)]
    assert asked == [f"/v2/models/{name}/infer" for name in HUNGRY]
