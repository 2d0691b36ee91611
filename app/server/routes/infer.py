"""The infer route: tensors in, tensors out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from flask import Flask, Response, request

from app.card import ModelCard
from app.errors import PayloadTooLargeError
from app.limits import JSON_EXPANSION, MAX_BODY_BYTES, MAX_JSON_BYTES, MAX_JSON_ELEMENTS
from app.server.oip.bounds import json_bytes
from app.server.oip.compression import inflate
from app.server.oip.request import InferRequest, decode_request, read_header_bytes
from app.server.oip.response import InferAnswer, check_answer, encode_response
from app.server.routes.bodies import DecodedRoom, read_body
from app.server.routes.rights import admission, client, needs
from app.server.routes.timing import SERVER_TIMING, is_gone, queued_ns, server_timing
from app.serving.catalogue import Catalogue
from app.tensors import Array, dtype_name

HEADER_BYTES = "Inference-Header-Content-Length"
"""Where the JSON of a body ends and raw tensors begin."""

_HEADER_DIGITS: Final = 10
"""Of that number in every answer: how many it needs may tell how long the tensors are."""

_ITEM_BYTES: Final = 4
"""Most bytes of a tensor for each byte of its JSON: a digit and a comma become eight."""

_WRITTEN_BYTES: Final = 96
"""What an element takes while it becomes JSON: Python's list and number, its text twice."""

_RANKED_BYTES: Final = 24
"""What a score takes while the best are looked for: two copies and its place."""

_TEXT_COPIES: Final = 3


def add_routes(application: Flask, catalogue: Catalogue, room: DecodedRoom) -> None:
    """Adds the infer route, with and without a version."""

    @application.post("/v2/models/<name>/infer")
    @application.post("/v2/models/<name>/versions/<version>/infer")
    @needs("infer")
    def infer(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        tenant, gone = client(), is_gone()
        arrived = time.perf_counter_ns()
        body = _Body(model.card)
        with room.hold(tenant, body.decoding_bytes, gone) as share:
            started = time.perf_counter_ns()
            asked = body.decode()
            room.shrink(share, body.decoded_bytes)
            check_answer(model.card, asked)
            decoded = time.perf_counter_ns()
            model.recorder.read_input(decoded - started)
            result = model.infer(
                asked.inputs,
                tenant=tenant,
                timeout_us=asked.timeout_us,
                priority=asked.priority,
                gone=gone,
                queued_ns=queued_ns() + started - arrived,
            )
            computed = time.perf_counter_ns()
            asked = replace(asked, inputs={})  # no tensor outlives the share that it was counted in
        with room.hold(tenant, _written_bytes(asked, result.outputs), gone):
            answer = encode_response(
                model.model_id,
                model.version,
                model.card,
                asked,
                result.outputs,
                bundle_id=model.bundle_id,
            )
        response = _response(answer)
        encoded = time.perf_counter_ns()
        model.recorder.wrote_output(encoded - computed)
        response.headers[SERVER_TIMING] = server_timing(
            result,
            total_ns=encoded - arrived,
            decode_ns=decoded - started,
            encode_ns=encoded - computed,
        )
        return response


class _Body:
    """The present request's body, and what decoding it may take.

    Raises:
        PayloadTooLargeError: it is declared larger than allowed; nothing was read.
        InputError: its headers don't say where the JSON ends.

    Attributes:
        decoding_bytes: most bytes of memory beside it that decoding takes.
        decoded_bytes: most bytes of memory beside it that its tensors take.
    """

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._header = request.headers.get(HEADER_BYTES)
        self._encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        self._raw = read_body(MAX_BODY_BYTES, "a body")
        is_json, is_plain = self._header is None, self._encoding == "identity"
        most_json_bytes = json_bytes(card, None if is_plain else len(self._raw))
        self._most_bytes = most_json_bytes if is_json else MAX_BODY_BYTES
        if is_plain:
            self._most_bytes = len(self._raw)
        head_bytes = read_header_bytes(self._header, self._most_bytes)
        json_size = self._most_bytes if head_bytes is None else head_bytes
        if json_size > most_json_bytes:
            place = "" if is_plain else f" in a compressed body of {len(self._raw)}"
            raise PayloadTooLargeError(
                f"the JSON has {json_size} bytes, for this model at most {most_json_bytes}{place}; "
                "send the tensors as binary data"
            )
        inflated_bytes = 0 if is_plain else self._most_bytes
        tensors_bytes = (_ITEM_BYTES if is_json else 1) * self._most_bytes
        self.decoded_bytes = inflated_bytes + tensors_bytes
        self.decoding_bytes = self.decoded_bytes + JSON_EXPANSION * json_size

    def decode(self) -> InferRequest:
        """Inflates and decodes it; what it inflates to counts in the tenant's quota."""
        known = admission()
        known.further_bytes = self._most_bytes - len(self._raw)  # if it is refused
        body = inflate(self._raw, self._encoding, self._most_bytes)
        known.further_bytes = max(0, len(body) - len(self._raw))
        return decode_request(body, self._card, read_header_bytes(self._header, len(body)))


def _written_bytes(asked: InferRequest, outputs: Mapping[str, Array]) -> int:
    """Gives most bytes of memory that writing the answer's JSON takes."""
    ranked_items = sum(outputs[wanted.name].size for wanted in asked.outputs if wanted.classes)
    listed = [outputs[wanted.name] for wanted in asked.outputs if wanted.is_listed]
    items = min(MAX_JSON_ELEMENTS, ranked_items + sum(array.size for array in listed))
    has_strings = any(dtype_name(array) == "string" for array in listed)
    return (
        _WRITTEN_BYTES * items
        + _RANKED_BYTES * ranked_items
        + (_TEXT_COPIES * MAX_JSON_BYTES if has_strings else 0)
    )


def _response(answer: InferAnswer) -> Response:
    """Sends JSON and tensors as they lie in memory."""
    chunks: list[bytes | memoryview] = [answer.header, *answer.tensors]
    response = Response(chunks)  # type: ignore[arg-type] # views are sent as bytes
    response.content_type = "application/octet-stream" if answer.tensors else "application/json"
    response.content_length = sum(map(len, chunks))
    if answer.tensors:
        response.headers[HEADER_BYTES] = f"{len(answer.header):0{_HEADER_DIGITS}}"
    return response
