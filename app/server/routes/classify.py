"""The classify route: a picture in, labels out. Not a part of the protocol."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
from flask import Flask, Response, request

from app.card import ModelCard
from app.errors import CancelledError, InputError, UnsupportedMediaError
from app.limits import MAX_BODY_BYTES, MAX_TOP_K
from app.pictures import Picture, open_picture
from app.runner import PartitionTiming
from app.runtime import Runtime
from app.server.oip.classification import best, longest_label
from app.server.oip.describe import bundle_parameter
from app.server.oip.response import compact_json, padded_line
from app.server.routes.bodies import DecodedRoom, form_file, read_body
from app.server.routes.rights import client, needs
from app.server.routes.timing import SERVER_TIMING, is_gone, queued_ns, server_timing
from app.serving.catalogue import Catalogue
from app.tensors import Array

_PICTURES: Final = ("image/png", "image/jpeg", "application/octet-stream")
_DEFAULT_TOP_K: Final = 5
_WIDEST_NUMBER: Final = 10**15
"""As long as any number of an answer: bytes, or milliseconds with three decimals."""


def add_routes(
    application: Flask, catalogue: Catalogue, runtime: Runtime, room: DecodedRoom
) -> None:
    """Adds the classify route."""

    @application.post("/v1/models/<name>/classify")
    @needs("infer")
    def classify(name: str) -> Response:
        model = catalogue.find(name)
        top_k = _top_k()
        tenant, gone = client(), is_gone()

        def check() -> None:
            if gone():
                raise CancelledError(0)

        arrived = time.perf_counter_ns()
        picture = _picture(model.card)
        with room.hold(tenant, picture.decoding_bytes, gone):
            started = time.perf_counter_ns()
            tensor = picture.tensor(check)
        decoded = time.perf_counter_ns()
        result = model.infer(
            {model.card.inputs[0].name: tensor},
            tenant=tenant,
            timeout_us=None,
            priority=0,
            gone=gone,
            queued_ns=queued_ns() + started - arrived,
        )
        finished = time.perf_counter_ns()
        model.recorder.read_input(decoded - started)
        answer: dict[str, Any] = {
            "model": {
                "id": model.model_id,
                "version": model.version,
                **bundle_parameter(model.bundle_id),
            },
            "labels": best_labels(model.card, result.outputs, top_k),
            "timing": {
                "decode_ms": _ms(decoded - started),
                "run_ms": _ms(finished - decoded),
                "partitions": [_timing(timing) for timing in result.timings],
            },
            "memory": {"budget_bytes": catalogue.budget_bytes, "peak_bytes": result.peak_bytes},
            "runtime": runtime.value,
        }
        response = Response(_padded(answer, model.card), content_type="application/json")
        encoded = time.perf_counter_ns()
        response.headers[SERVER_TIMING] = server_timing(
            result,
            total_ns=encoded - arrived,
            decode_ns=decoded - started,
            encode_ns=encoded - finished,
        )
        return response


def best_labels(card: ModelCard, outputs: dict[str, Array], top_k: int) -> list[dict[str, Any]]:
    """Gives the classes of one picture with the highest probabilities, best first.

    JSON has no NaN or infinity: such a probability is None.
    """
    scores = outputs[card.outputs[0].name].reshape(-1).astype(np.float64)
    if card.scores == "logits":
        with np.errstate(invalid="ignore"):
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
    return [
        {
            "label": card.labels[index] if index < len(card.labels) else str(index),
            "index": index,
            "probability": round(float(scores[index]), 6) if np.isfinite(scores[index]) else None,
        }
        for index in best(scores, top_k)
    ]


def _padded(answer: dict[str, Any], card: ModelCard) -> bytes:
    """Gives an answer's JSON, as long as it could be for any picture: its length tells no label."""
    labels = answer["labels"]
    longest = max(
        longest_label(card.labels), str(_WIDEST_NUMBER), key=lambda text: len(compact_json(text))
    )
    widest = _widened(answer | {"labels": [label | {"label": longest} for label in labels]})
    return padded_line(compact_json(answer), len(compact_json(widest)))


def _widened(value: object) -> object:
    """Puts the widest number in the place of every one."""
    if isinstance(value, dict):
        return {name: _widened(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_widened(item) for item in value]
    return value if isinstance(value, str) else _WIDEST_NUMBER


def _top_k() -> int:
    text = request.args.get("top_k", str(_DEFAULT_TOP_K))
    if not text.isdecimal() or not 1 <= len(text) <= 4 or not 1 <= int(text) <= MAX_TOP_K:
        raise InputError(f"top_k: expected 1 to {MAX_TOP_K}, got {text[:20]!r}")
    return int(text)


def _picture(card: ModelCard) -> Picture:
    if card.preprocessing is None:
        raise InputError("this model takes tensors, not pictures; use the infer route")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaError("send the picture itself; PNG and JPEG are compressed already")
    is_form = request.mimetype == "multipart/form-data"
    if not is_form and request.mimetype not in _PICTURES:
        raise UnsupportedMediaError(
            f"expected image/png, image/jpeg or multipart/form-data with a field 'image', "
            f"got {request.mimetype[:80]!r}"
        )
    body = read_body(MAX_BODY_BYTES, "a picture")
    boundary = request.mimetype_params.get("boundary", "")
    file = form_file(body, boundary, "image") if is_form else body
    return open_picture(file, card.preprocessing)


def _timing(timing: PartitionTiming) -> dict[str, object]:
    return {
        "index": timing.partition,
        "load_ms": _ms(timing.load_ns),
        "wait_ms": _ms(timing.wait_ns),
        "run_ms": _ms(timing.run_ns),
        "weights_bytes": timing.weights_bytes,
    }


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
