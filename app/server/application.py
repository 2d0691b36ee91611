"""The routes, as a Flask application."""

from __future__ import annotations

import io
import logging
import threading
import time
from typing import IO, Any, Final

import numpy as np
from flask import Flask, Request, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from app import __version__
from app.card import ModelCard
from app.errors import (
    ApplianceError,
    AuthenticationError,
    BusyError,
    InputError,
    KeyUnavailableError,
    MemoryBudgetError,
    NotFoundError,
    PayloadTooLargeError,
    UnsupportedMediaError,
)
from app.limits import MAX_BODY_BYTES, MAX_JSON_BYTES, MAX_TOP_K
from app.pictures import picture_tensor
from app.runner import PartitionTiming
from app.runtime import Runtime
from app.server.protocol import decode_request, encode_response, model_metadata
from app.serving import Catalogue
from app.tensors import Array

_log = logging.getLogger(__name__)

_STATUSES: Final[tuple[tuple[type[ApplianceError], int], ...]] = (
    (PayloadTooLargeError, 413),
    (UnsupportedMediaError, 415),
    (InputError, 400),
    (NotFoundError, 404),
    (AuthenticationError, 401),
    (BusyError, 503),
    (KeyUnavailableError, 503),
    (MemoryBudgetError, 413),
)
_PICTURES: Final = ("image/png", "image/jpeg", "application/octet-stream")
_DEFAULT_TOP_K: Final = 5


class _MemoryRequest(Request):
    """Keeps uploads in memory: the transport has bounded them, and a disk would be slower."""

    max_form_parts = 8

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


class _Application(Flask):
    request_class = _MemoryRequest


def create_application(catalogue: Catalogue, runtime: Runtime) -> Flask:
    """Makes the application.

    Args:
        catalogue: the models to serve.
        runtime: named in every classification.
    """
    application = _Application("cloister", static_folder=None)
    application.json.sort_keys = False  # type: ignore[attr-defined]
    application.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    application.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    _add_error_handlers(application)
    _add_health(application)
    _add_models(application, catalogue, runtime)
    return application


def _add_error_handlers(application: Flask) -> None:
    @application.errorhandler(ApplianceError)
    def appliance_error(error: ApplianceError) -> tuple[Response, int]:
        status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
        if isinstance(error, MemoryBudgetError):
            return jsonify(
                error=f"the request needs {error.required_bytes} bytes of model memory, the budget "
                f"is {error.budget_bytes} bytes; send a smaller one"
            ), status
        if status == 500:
            _log.error("request failed: %s: %s", type(error).__name__, error)
            return jsonify(error="the model could not be run"), status
        answer = jsonify(error=str(error))
        if isinstance(error, BusyError):
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer, status

    @application.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        known = {404: "there is no such route", 405: "the route doesn't take this method"}
        answer = jsonify(error=known.get(error.code or 500) or error.description or error.name)
        # Allow, Retry-After and the like belong to the status.
        for name, value in error.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                answer.headers[name] = value
        return answer, error.code or 500

    @application.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        # Its text could hold a part of the request.
        _log.error("request failed unexpectedly: %s", type(error).__name__)
        return jsonify(error="internal error"), 500


def _add_health(application: Flask) -> None:
    @application.get("/v2")
    def server_metadata() -> Response:
        return jsonify(name="cloister", version=__version__, extensions=[])

    @application.get("/v2/health/live")
    def live() -> Response:
        return jsonify(live=True)

    @application.get("/v2/health/ready")
    def ready() -> Response:
        return jsonify(ready=True)


def _add_models(application: Flask, catalogue: Catalogue, runtime: Runtime) -> None:
    decoding = threading.Lock()

    @application.get("/v2/models/<name>")
    @application.get("/v2/models/<name>/versions/<version>")
    def metadata(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        return jsonify(model_metadata(model.model_id, model.version, model.card))

    @application.get("/v2/models/<name>/ready")
    @application.get("/v2/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        return jsonify(name=model.model_id, ready=True)

    @application.post("/v2/models/<name>/infer")
    @application.post("/v2/models/<name>/versions/<version>/infer")
    def infer(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        raw = _json_body()
        # One at a time: parsing takes many times the body's size in memory.
        with decoding:
            parsed = decode_request(raw, model.card)
        result = model.run(parsed.inputs)
        return jsonify(encode_response(model.model_id, model.version, parsed, result.outputs))

    @application.post("/v1/models/<name>/classify")
    def classify(name: str) -> Response:
        model = catalogue.find(name)
        top_k = _top_k()
        started = time.perf_counter_ns()
        with decoding:
            picture = _picture(model.card)
        decoded = time.perf_counter_ns()
        result = model.run({model.card.inputs[0].name: picture})
        finished = time.perf_counter_ns()
        return jsonify(
            model={"id": model.model_id, "version": model.version},
            labels=best_labels(model.card, result.outputs, top_k),
            timing={
                "decode_ms": _ms(decoded - started),
                "run_ms": _ms(finished - decoded),
                "partitions": [_timing(each) for each in result.timings],
            },
            runtime=runtime.value,
        )


def _json_body() -> bytes:
    if "Inference-Header-Content-Length" in request.headers:
        raise InputError("binary tensors aren't implemented; send the tensors as JSON")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaError("compressed bodies aren't implemented; send plain JSON")
    if (request.content_length or 0) > MAX_JSON_BYTES:
        raise PayloadTooLargeError(
            f"the body has {request.content_length} bytes, a JSON body at most {MAX_JSON_BYTES}"
        )
    return request.get_data(cache=False)


def _top_k() -> int:
    text = request.args.get("top_k", str(_DEFAULT_TOP_K))
    if not text.isdecimal() or not 1 <= len(text) <= 4 or not 1 <= int(text) <= MAX_TOP_K:
        raise InputError(f"top_k: expected 1 to {MAX_TOP_K}, got {text[:20]!r}")
    return int(text)


def _picture(card: ModelCard) -> Array:
    if card.preprocessing is None:
        raise InputError("this model takes tensors, not pictures; use the infer route")
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
    return request.get_data(cache=False)


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
