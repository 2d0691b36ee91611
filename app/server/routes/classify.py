"""The classify route: a picture in, labels out. Not a part of the protocol."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
from flask import Flask, Response, jsonify, request

from app.card import ModelCard
from app.errors import InputError, UnsupportedMediaError
from app.limits import MAX_BODY_BYTES, MAX_TOP_K
from app.pictures import picture_tensor
from app.runner import PartitionTiming
from app.runtime import Runtime
from app.server.oip.metadata import bundle_parameter
from app.server.routes.bodies import DecodingTurn, read_body
from app.server.routes.rights import admission, needs
from app.server.routes.served import Models
from app.server.routes.timing import SERVER_TIMING, Moments, server_timing
from app.server.routes.waiting import is_gone, queued_ns
from app.tensors import Array

_PICTURES: Final = ("image/png", "image/jpeg", "application/octet-stream")
_DEFAULT_TOP_K: Final = 5


def add_routes(application: Flask, catalogue: Models, runtime: Runtime, turn: DecodingTurn) -> None:
    """Adds the classify route."""

    @application.post("/v1/models/<name>/classify")
    @needs("infer")
    def classify(name: str) -> Response:
        model = catalogue.find(name)
        top_k = _top_k()
        started = time.perf_counter_ns()
        # A small file may be a large picture, so every one takes its turn.
        with turn.wait(MAX_BODY_BYTES):
            picture = _picture(model.card)
        decoded = time.perf_counter_ns()
        result = model.infer(
            {model.card.inputs[0].name: picture},
            tenant=admission().tenant,
            timeout_us=None,
            priority=0,
            gone=is_gone(),
            queued_ns=queued_ns(),
        )
        finished = time.perf_counter_ns()
        model.recorder.read_input(decoded - started)
        response = jsonify(
            model={
                "id": model.model_id,
                "version": model.version,
                **bundle_parameter(model.bundle_id),
            },
            labels=best_labels(model.card, result.outputs, top_k),
            timing={
                "decode_ms": _ms(decoded - started),
                "run_ms": _ms(finished - decoded),
                "partitions": [_timing(each) for each in result.timings],
            },
            memory={"budget_bytes": catalogue.budget_bytes, "peak_bytes": result.peak_bytes},
            runtime=runtime.value,
        )
        moments = Moments(started, decoded, finished, time.perf_counter_ns())
        response.headers[SERVER_TIMING] = server_timing(moments, result)
        return response


def best_labels(card: ModelCard, outputs: dict[str, Array], top_k: int) -> list[dict[str, Any]]:
    """Gives the classes of one picture with the highest probabilities, best first."""
    scores = outputs[card.outputs[0].name].reshape(-1).astype(np.float64)
    if card.scores == "logits":
        powers = np.exp(scores - scores.max())
        scores = powers / powers.sum()
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [
        {
            "label": card.labels[index] if index < len(card.labels) else str(index),
            "index": int(index),
            "probability": round(float(scores[index]), 6),
        }
        for index in best
    ]


def _top_k() -> int:
    text = request.args.get("top_k", str(_DEFAULT_TOP_K))
    if not text.isdecimal() or not 1 <= len(text) <= 4 or not 1 <= int(text) <= MAX_TOP_K:
        raise InputError(f"top_k: expected 1 to {MAX_TOP_K}, got {text[:20]!r}")
    return int(text)


def _picture(card: ModelCard) -> Array:
    if card.preprocessing is None:
        raise InputError("this model takes tensors, not pictures; use the infer route")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaError("send the picture itself; PNG and JPEG are compressed already")
    return picture_tensor(_picture_bytes(), card.preprocessing)


def _picture_bytes() -> bytes:
    if request.mimetype == "multipart/form-data":
        upload = request.files.get("image")
        if upload is None:
            raise InputError("the form has no file in a field 'image'; send -F image=@FILE")
        return upload.stream.read()
    if request.mimetype not in _PICTURES:
        raise UnsupportedMediaError(
            f"expected image/png, image/jpeg or multipart/form-data with a field 'image', "
            f"got {request.mimetype[:80]!r}"
        )
    return read_body(MAX_BODY_BYTES, "a picture")


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
