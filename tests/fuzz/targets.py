"""What is fuzzed: functions that take any bytes, and fail when a law is broken.

Every target lets the documented error of its function pass and nothing else. What was accepted
has to keep further laws. README.md describes the form of each target's input.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from app.access.admission import Gate
from app.access.policy import parse_policy
from app.card import ModelCard, Preprocessing, read_card
from app.errors import BundleFormatError, ConfigError, InputError
from app.fields import FieldError, Fields, parse_json
from app.limits import MAX_HEAD_BYTES
from app.manifest import pack_structure, parse_manifest, parse_structure
from app.pictures import picture_tensor
from app.server.framing import FramingError, Head, scan
from app.server.oip.compression import ENCODINGS, inflate
from app.server.oip.datatypes import DATATYPES
from app.server.oip.request import InferRequest, decode_request
from app.server.oip.response import InferAnswer, encode_response
from app.server.routes.bodies import form_file
from app.tensors import Array, TensorSpec
from tests.fuzz.exchange import exchange

Target = Callable[[bytes], None]

MOST_INFLATED_BYTES: Final = 1 << 16
WEIGHTS_BYTES: Final = 4096


def _echo(*specs: TensorSpec) -> ModelCard:
    """A model whose outputs are its inputs."""
    return ModelCard("Echo", "tensors", ("one", "two"), "logits", None, specs, specs)


CARDS: Final = (
    _echo(TensorSpec("x", "float32", ("n", 2)), TensorSpec("count", "int64", (1,))),
    *(_echo(TensorSpec("x", dtype, ("n",))) for dtype in sorted(DATATYPES)),
    _echo(TensorSpec("x", "float32", ())),
    _echo(TensorSpec("x", "float32", None)),
    _echo(TensorSpec("x", "int8", ("n", 0, "m"))),
    _echo(TensorSpec("x", "complex64", ("n",))),
)
"""The first byte of an input chooses one: "a" is the first."""

ALONE: Final = Preprocessing(
    "NCHW", 1, 2, 3, "stretch", "nearest", 255.0, (0.0,), (1.0,), invert=False
)
COLOUR: Final = Preprocessing(
    "NHWC", 3, 8, 5, "crop", "bicubic", 1.0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), invert=True
)


def _check_message(error: Exception) -> None:
    """It is sent and logged, so it has a UTF-8 form and doesn't grow with the input."""
    text = str(error).encode()
    assert 0 < len(text) <= 2000, f"a message of {len(text)} bytes: {text[:200]!r}"


def _choice(data: bytes) -> int:
    return data[0] - ord("a") if data else 0


def oip(data: bytes) -> None:
    """An inference request, and the answer of a model that echoes it."""
    card = CARDS[_choice(data) % len(CARDS)]
    head, nul, tensors = data[1:].partition(b"\0")
    try:
        asked = decode_request(head + tensors, card, len(head) if nul else None)
    except InputError as error:
        return _check_message(error)
    for spec in card.inputs:
        spec.check(asked.inputs[spec.name])
    try:
        answer = encode_response("m", 1, card, asked, asked.inputs)
    except InputError as error:
        return _check_message(error)
    _check_length(card, asked, answer)
    described = json.loads(answer.header)["outputs"]
    assert [each["name"] for each in described] == [each.name for each in asked.outputs]
    plain = all(each.binary and not each.classes for each in asked.outputs)
    if plain and len(described) == len(card.inputs):
        again = json.dumps({"inputs": described}).encode()
        _check_same(asked, decode_request(again + b"".join(answer.tensors), card, len(again)))
    return None


def _check_length(card: ModelCard, asked: InferRequest, answer: InferAnswer) -> None:
    """Other outputs of the same shapes make an answer of the same length."""
    if any(array.dtype.kind == "O" for array in asked.inputs.values()):
        return
    others = {name: np.zeros_like(array) for name, array in asked.inputs.items()}
    other = encode_response("m", 1, card, asked, others)
    assert _whole_bytes(other) == _whole_bytes(answer)


def _whole_bytes(answer: InferAnswer) -> int:
    return len(answer.header) + sum(map(len, answer.tensors))


def _check_same(first: InferRequest, second: InferRequest) -> None:
    for name, array in first.inputs.items():
        assert _content(second.inputs[name]) == _content(array)


def _content(array: Array) -> object:
    """NaN isn't equal to itself, its bytes are."""
    return array.shape, array.tolist() if array.dtype.kind == "O" else array.tobytes()


def compression(data: bytes) -> None:
    """A compressed body, bounded and without a rest."""
    name = (*ENCODINGS, "identity", "br")[_choice(data) % (len(ENCODINGS) + 2)]
    try:
        found = inflate(data[1:], name, MOST_INFLATED_BYTES)
    except InputError as error:
        return _check_message(error)
    if name in ENCODINGS:
        assert len(found) <= MOST_INFLATED_BYTES
        packed = gzip.compress(found, 1) if name == "gzip" else zlib.compress(found, 1)
        assert inflate(packed, name, MOST_INFLATED_BYTES) == found
    return None


def form(data: bytes) -> None:
    """A form with a picture; its boundary is "B"."""
    try:
        found = form_file(data, "B", "image")
    except InputError as error:
        return _check_message(error)
    assert found.obj is data, "a copy"
    assert b"\r\n--B--" not in bytes(found)
    assert b"\r\n--B\r\n" not in bytes(found)
    head, tail = data.split(bytes(found), 1) if found else (data, data)
    assert b"image" in head + tail
    return None


def manifest(data: bytes) -> None:
    """The signed manifest of a bundle."""
    try:
        found = parse_manifest(data)
    except BundleFormatError as error:
        return _check_message(error)
    assert parse_manifest(json.dumps(found.to_json()).encode()) == found
    return None


def structure(data: bytes) -> None:
    """A partition's structure: after "a" with its length before the layout, after "b" without."""
    whole = data[1:] if _choice(data) % 2 == 0 else pack_structure(data[1:], b"graph")
    try:
        layout, graph = parse_structure(whole, WEIGHTS_BYTES)
    except BundleFormatError as error:
        return _check_message(error)
    assert len(graph) < len(whole)
    for weight in layout.weights:
        assert 0 <= weight.offset <= weight.offset + weight.size_bytes <= WEIGHTS_BYTES
    again = pack_structure(json.dumps(layout.to_json()).encode(), graph)
    assert parse_structure(again, WEIGHTS_BYTES) == (layout, graph)
    return None


def card(data: bytes) -> None:
    """A model card."""
    try:
        fields = Fields(parse_json(data), "card")
        found = read_card(fields)
        fields.done()
    except FieldError as error:
        return _check_message(error)
    assert read_card(Fields(parse_json(json.dumps(found.to_json()).encode()), "card")) == found
    return None


def policy(data: bytes) -> None:
    """The access policy."""
    try:
        found = parse_policy(data)
    except ConfigError as error:
        assert error.problems
        assert str(error).encode()
        return
    Gate(found)


def framing(data: bytes) -> None:
    """What a client has sent so far: the outcome must not depend on how it was cut."""
    whole = _scanned(data)
    for end in {*range(min(len(data), 8)), len(data) // 2, max(0, len(data) - 1)}:
        part = _scanned(data[:end])
        assert part is None or part == whole
    if not isinstance(whole, Head):
        return
    assert whole.consumed_bytes <= min(len(data), MAX_HEAD_BYTES + 2)
    lines = [b"%s: %s" % header for header in whole.headers]
    request_line = b"%s %s HTTP/1.%d" % (whole.method, whole.target, whole.minor_version)
    again = _scanned(b"\r\n".join([request_line, *lines, b"", b""]))
    assert isinstance(again, Head)
    assert again.headers == whole.headers
    assert again.authorization is None
    assert (again.method, again.target, again.body_bytes, again.keep_alive) == (
        whole.method,
        whole.target,
        whole.body_bytes,
        whole.keep_alive,
    )


def _scanned(data: bytes) -> Head | tuple[int, str] | None:
    try:
        return scan(data)
    except FramingError as error:
        return error.status, error.reason


def picture(data: bytes) -> None:
    """A picture: after "a" as it is, after "b" with right checksums; "c" and "d" with colours."""
    how = COLOUR if _choice(data) & 2 else ALONE
    raw = _with_checksums(data[1:]) if _choice(data) & 1 else data[1:]
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        try:
            tensor = picture_tensor(raw, how)
        except InputError as error:
            return _check_message(error)
        finally:
            assert not escaped, f"a line of the log for each of {len(escaped)} warnings"
    size = (how.height, how.width)
    assert tensor.shape == ((1, 1, *size) if how.layout == "NCHW" else (1, *size, 3))
    assert tensor.dtype == np.float32
    assert np.isfinite(tensor).all()
    return None


def _with_checksums(raw: bytes) -> bytes:
    """Mends the checksums of a PNG, behind which mutations would be refused."""
    pieces, place = [raw[:8]], 8
    while place + 12 <= len(raw):
        end = place + 8 + int.from_bytes(raw[place : place + 4], "big")
        body = raw[place + 4 : end]
        pieces += [raw[place : place + 4], body, zlib.crc32(body).to_bytes(4, "big")]
        place = end + 4
    return b"".join([*pieces, raw[place:]])


TARGETS: Final[Mapping[str, Target]] = {
    each.__name__: each
    for each in (
        oip,
        compression,
        form,
        manifest,
        structure,
        card,
        policy,
        framing,
        picture,
        exchange,
    )
}
"""All of them by name; each has a folder of seeds of that name in `corpus`."""
