"""Bytes that hostile clients send; pure, so that a test and a benchmark send the same ones."""

from __future__ import annotations

import functools
import gzip
import json
import ssl
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import numpy as np

from app.limits import KIB, MAX_BODY_BYTES, MAX_JSON_BYTES, MIB
from app.server.oip.datatypes import DATATYPES
from app.tensors import TensorSpec
from tools.bench.pictures import progressive
from tools.bench.sites import HUNGRY, HUNGRY_INPUT, WIDE, WIDE_ELEMENTS, WIDE_INPUT

HEADER: Final = "Inference-Header-Content-Length"
"""Says where the JSON of a request with binary tensors ends."""

BOMB_BYTES: Final = 64 * MIB
"""What a bomb inflates to: twice the largest body."""

DEPTH: Final = 100_000
BURST: Final = 2000
"""Requests that are sent at once, without waiting for answers."""

JSON_ELEMENTS: Final = 4 * MIB
"""Numbers of a large answer in JSON: 16 MiB as binary data, five times as much as text."""

_SENT_OF_HUGE: Final = 64 << 10
_HUGE: Final = (1 << 30, 1 << 62)
_PRODUCTS: Final = (
    [1 << 39, 1 << 39],
    [1 << 62, 4],
    [(1 << 40) - 1, 99_999_999],
    [1 << 32, 1 << 32],
)
"""Shapes whose number of elements doesn't fit 64 bits, or is 0 when it wraps around."""

_LARGE_BYTES: Final = MAX_BODY_BYTES - 16 * KIB
_SENT_OF_LARGE: Final = 22 * MIB
_SMALLER_BYTES: Final = MAX_BODY_BYTES // 4 - 16 * KIB
_SENT_OF_SMALLER: Final = _SMALLER_BYTES * 3 // 4
"""Bodies of which three, or twelve, together are as large as three of the largest, and what comes
of each at once: so little is missing that each may expect to be completed."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom the bytes are for.

    Attributes:
        model: its id.
        inputs: what it takes; sizes are numbers.
        token: to be let in with; hostile clients have credentials too.
        allied_tokens: of further tenants on their side.
    """

    model: str
    inputs: tuple[TensorSpec, ...]
    token: str
    allied_tokens: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where inference requests go."""
        return f"/v2/models/{self.model}/infer"

    def post(self, body: bytes, **headers: object) -> bytes:
        """Gives a whole request; `Content_Length` may be given to say something else."""
        lines: dict[str, object] = {"Content-Length": len(body)}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.head(*(f"{name}: {value}" for name, value in lines.items())) + body

    def head(self, *lines: str) -> bytes:
        """Gives a request's head with these further lines."""
        return self.request(f"POST {self.path}", *lines)

    def request(self, asked: str, *lines: str) -> bytes:
        """Gives the head of a request for anything, as "GET /v2", with the token."""
        return anonymous(asked, f"Authorization: Bearer {self.token}", *lines)

    def json(self, **change: object) -> bytes:
        """Gives the JSON of a right request, or one that differs in some fields."""
        inputs = [{**_head_of(spec), "data": [0] * prod(_shape(spec))} for spec in self.inputs]
        return json.dumps({"inputs": inputs, **change}).encode()

    def binary(self, number: float, **change: object) -> bytes:
        """Gives a request with every element of every input alike, as binary tensors."""
        raw = [np.full(_shape(spec), number, spec.dtype).tobytes() for spec in self.inputs]
        inputs = [
            {**_head_of(spec), "parameters": {"binary_data_size": len(data)}, **change}
            for spec, data in zip(self.inputs, raw, strict=True)
        ]
        head = json.dumps({"inputs": inputs}).encode()
        return self.post(head + b"".join(raw), **{HEADER: len(head)})


def anonymous(asked: str, *lines: str) -> bytes:
    """Gives the head of a request without credentials."""
    return "\r\n".join((f"{asked} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def _head_of(spec: TensorSpec) -> Mapping[str, object]:
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": _shape(spec)}


def _shape(spec: TensorSpec) -> list[int]:
    return [int(size) for size in spec.shape or ()]


def client_hello(context: ssl.SSLContext) -> bytes:
    """Gives the first flight of a handshake, to be cut anywhere."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def cut(target: Target) -> list[bytes]:
    """Gives requests that end in the head, in the body, and where the answer would come."""
    whole = target.post(target.json())
    return [whole[:40], whole[:-10], whole, target.post(b"", Content_Length=MIB) + bytes(1000)]


def wrong_lengths(target: Target) -> list[bytes]:
    """Gives requests whose lengths are too large, too small, or no numbers."""
    body = target.json()
    declared = [target.post(body, Content_Length=said) for said in ("-1", "1e3", "+5", "0x10", "")]
    inner = [target.post(body, **{HEADER: said}) for said in ("-1", "1e3", 1 << 64, len(body) + 1)]
    small, large = len(body) // 2, len(body) + 1000
    return [
        *declared,
        *inner,
        target.post(body, Content_Length=small),
        target.post(body, Content_Length=large),
    ]


def smuggled(target: Target) -> list[bytes]:
    """Gives requests that two servers in a row could cut in different places."""
    body = b"0\r\n\r\n" + target.post(target.json())
    length, chunked = f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"
    heads = [
        target.head(length, chunked),
        target.head(chunked, length),
        target.head(length, "Content-Length: 5"),
        target.head(chunked, "Transfer-Encoding: identity"),
        target.head("Content-Length : 5"),
        target.head(length, "X: a\r\n folded"),
        target.head(length, "X: a\nTransfer-Encoding: chunked"),
        target.head(length).replace(b"\r\n", b"\n"),
    ]
    return [head + body for head in heads]


def huge_bodies(target: Target) -> list[bytes]:
    """Gives the beginnings of requests that declare a gigabyte and more."""
    sent = bytes(_SENT_OF_HUGE)
    return [target.post(sent, Content_Length=said) for said in _HUGE]


@functools.cache
def inflating(size_bytes: int, encoding: str = "gzip") -> bytes:
    """Gives a few bytes that inflate to so many zeros, as gzip or deflate."""
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    return pack(bytes(size_bytes), 1)


def bombs(target: Target) -> list[bytes]:
    """Gives small bodies that inflate beyond the largest one."""
    return [
        target.post(inflating(BOMB_BYTES, encoding), Content_Encoding=encoding)
        for encoding in ("gzip", "deflate")
    ]


def nested(target: Target) -> list[bytes]:
    """Gives JSON that is nested deeply."""
    bodies = (b"[" * DEPTH, b'{"a":' * DEPTH, b'{"inputs":' + b"[" * DEPTH + b"]" * DEPTH + b"}")
    return [target.post(body) for body in bodies]


def long_ids(target: Target) -> list[bytes]:
    """Gives a request with an id of 1 MiB."""
    return [target.post(target.json(id="x" * MIB))]


def odd_numbers(target: Target) -> list[bytes]:
    """Gives tensors of NaN, infinities and -0: right as binary data, refused in JSON."""
    numbers = [target.binary(number) for number in (np.nan, np.inf, -np.inf, -0.0)]
    words = [target.json().replace(b"[0,", word) for word in (b"[NaN,", b"[-Infinity,", b"[1e999,")]
    return [*numbers, *(target.post(body) for body in words)]


def overflowing_shapes(target: Target) -> list[bytes]:
    """Gives shapes with more elements than a 64-bit number can count."""
    bodies = []
    for shape in _PRODUCTS:
        inputs = [{**_head_of(spec), "shape": shape, "data": [0]} for spec in target.inputs]
        bodies.append(target.post(target.json(inputs=inputs)))
        bodies.append(target.binary(0.0, shape=shape))
    return bodies


def bodies_on_open_paths(_target: Target) -> list[bytes]:
    """Gives beginnings of bodies where nobody has to say who they are and none is expected."""
    asked = ("POST /v2/health/live", "GET /v2/health/ready", "HEAD /v2/health/live")
    return [anonymous(each, _length(_LARGE_BYTES)) + bytes(_SENT_OF_LARGE) for each in asked]


def bodies_of_tenants(target: Target) -> list[bytes]:
    """Gives beginnings of bodies, of several tenants in turn."""
    return [
        replace(target, token=token).post(bytes(_SENT_OF_SMALLER), Content_Length=_SMALLER_BYTES)
        for token in (target.token, *target.allied_tokens)
    ]


def bodies_to_come(_target: Target) -> list[bytes]:
    """Gives a head whose body never comes."""
    return [anonymous("POST /v2/health/live", _length(MAX_BODY_BYTES))]


def waiting_bodies(target: Target) -> list[bytes]:
    """Gives three bodies that fill the room, and for each a hundred heads of others."""
    large = bodies_on_open_paths(target)
    return large + bodies_to_come(target) * (100 * len(large))


def refusals(_target: Target) -> list[bytes]:
    """Gives many small requests without credentials at once."""
    return [anonymous("GET /v2") * BURST]


def forbidden(target: Target) -> list[bytes]:
    """Gives many requests at once that lack a right."""
    return [target.request("POST /v2/repository/index", _length(0)) * BURST]


def health(_target: Target) -> list[bytes]:
    """Gives requests that everybody may send."""
    return [anonymous(f"GET /v2/health/{word}") for word in ("live", "ready")]


def many_scans(target: Target) -> list[bytes]:
    """Gives a picture of some ten kilobytes that is decoded in hundreds of passes."""
    body, kind = progressive(), "Content-Type: image/jpeg"
    asked = f"POST /v1/models/{target.model}/classify"
    return [target.request(asked, kind, _length(len(body))) + body]


def json_bombs(target: Target) -> list[bytes]:
    """Gives 4 KB of gzip that hold the largest JSON: numbers that no model of this size takes."""
    head, _, tail = target.json().partition(b"[0,")
    numbers = b"1," * ((MAX_JSON_BYTES - len(head) - len(tail) - 2) // 2)
    body = gzip.compress(head + b"[" + numbers + tail)
    return [target.post(body, Content_Encoding="gzip")]


def large_json_answers(target: Target) -> list[bytes]:
    """Gives a request whose answer is as large as itself, and is to come as JSON."""
    spec = TensorSpec(WIDE_INPUT, "float32", (JSON_ELEMENTS,))
    return [replace(target, model=WIDE, inputs=(spec,)).binary(1 / 3)]


def large_answers(target: Target) -> list[bytes]:
    """Gives a request for as many bytes as one body may hold."""
    tensor = {
        "name": WIDE_INPUT,
        "datatype": "FP32",
        "shape": [WIDE_ELEMENTS],
        "parameters": {"binary_data_size": 4 * WIDE_ELEMENTS},
    }
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    raw = bytes(4 * WIDE_ELEMENTS)
    return [replace(target, model=WIDE).post(head + raw, **{HEADER: len(head)})]


def in_turns(target: Target) -> list[bytes]:
    """Gives requests for two models of which each needs the memory of all."""
    spec = TensorSpec(HUNGRY_INPUT, "float32", (1, 1))
    targets = [replace(target, model=name, inputs=(spec,)) for name in HUNGRY]
    return [each.post(each.json()) for each in targets]


def _length(size: int) -> str:
    return f"Content-Length: {size}"
