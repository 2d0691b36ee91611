"""The infer route: tensors in, tensors out."""

from __future__ import annotations

import time

from flask import Flask, Response, request

from app.card import ModelCard
from app.limits import MAX_BODY_BYTES, MAX_JSON_BYTES
from app.server.oip.compression import ENCODINGS, deflate, inflate
from app.server.oip.request import InferRequest, decode_request, read_header_bytes
from app.server.oip.response import InferAnswer, encode_response
from app.server.routes.bodies import DecodedRoom, DecodingTurn, read_body
from app.server.routes.rights import admission, needs
from app.server.routes.served import Model, Models
from app.server.routes.timing import SERVER_TIMING, Moments, server_timing
from app.server.routes.waiting import is_gone, queued_ns

HEADER_BYTES = "Inference-Header-Content-Length"
"""Where the JSON of a body ends and raw tensors begin."""


_ITEM_BYTES = 4
"""Most bytes of a tensor for each byte of its JSON: a digit and a comma become eight."""


def add_routes(application: Flask, catalogue: Models, turn: DecodingTurn) -> None:
    """Adds the infer route, with and without a version."""
    room = DecodedRoom()

    @application.post("/v2/models/<name>/infer")
    @application.post("/v2/models/<name>/versions/<version>/infer")
    @needs("infer")
    def infer(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        body = _Body()
        with room.hold(body.decoded_bytes):
            return _infer(model, body, turn)


def _infer(model: Model, body: _Body, turn: DecodingTurn) -> Response:
    started = time.perf_counter_ns()
    with turn.wait(body.json_bytes):
        asked = body.decode(model.card)
    decoded = time.perf_counter_ns()
    model.recorder.read_input(decoded - started)
    result = model.infer(
        asked.inputs,
        tenant=admission().tenant,
        timeout_us=asked.timeout_us,
        priority=asked.priority,
        gone=is_gone(),
        queued_ns=queued_ns(),
    )
    computed = time.perf_counter_ns()
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
    moments = Moments(started, decoded, computed, encoded)
    response.headers[SERVER_TIMING] = server_timing(moments, result)
    return response


class _Body:
    """The present request's body, and what decoding it may take.

    Raises:
        PayloadTooLargeError: it is declared larger than allowed; nothing was read.
        InputError: its headers don't say where the JSON ends.

    Attributes:
        json_bytes: most bytes of JSON in it.
        decoded_bytes: most bytes of memory beside it that its tensors take.
    """

    def __init__(self) -> None:
        self._header = request.headers.get(HEADER_BYTES)
        self._encoding = request.headers.get("Content-Encoding", "identity")
        is_json = self._header is None
        self._most_bytes = MAX_JSON_BYTES if is_json else MAX_BODY_BYTES
        self._raw = read_body(self._most_bytes, "a JSON body" if is_json else "a body")
        is_plain = self._encoding.strip().lower() == "identity"
        size = len(self._raw) if is_plain else self._most_bytes
        head_bytes = read_header_bytes(self._header, size)
        self.json_bytes = size if head_bytes is None else head_bytes
        tensors_bytes = _ITEM_BYTES * size if is_json else size
        self.decoded_bytes = tensors_bytes + (0 if is_plain else size)

    def decode(self, card: ModelCard) -> InferRequest:
        """Inflates and decodes it."""
        body = inflate(self._raw, self._encoding, self._most_bytes)
        return decode_request(body, card, read_header_bytes(self._header, len(body)))


def _response(answer: InferAnswer) -> Response:
    """Sends JSON and tensors as they lie in memory, or compressed when the client takes that."""
    chunks: list[bytes | memoryview] = [answer.header, *answer.tensors]
    headers = {}
    if answer.has_binary:
        headers[HEADER_BYTES] = str(len(answer.header))
    encoding = request.accept_encodings.best_match(("identity", *ENCODINGS), default="identity")
    if encoding in ENCODINGS:
        headers["Content-Encoding"] = encoding
        chunks = [deflate(chunks, encoding)]
    response = Response(chunks, headers=headers)  # type: ignore[arg-type] # views are sent as bytes
    response.content_type = "application/octet-stream" if answer.has_binary else "application/json"
    response.content_length = sum(map(len, chunks))
    return response
