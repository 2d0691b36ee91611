"""Errors as statuses; one of the two places where they are translated."""

from __future__ import annotations

import logging
from typing import Final

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from app.errors import (
    ApplianceError,
    AuthenticationError,
    BusyError,
    CancelledError,
    DeadlineError,
    ForbiddenError,
    InputError,
    KeyUnavailableError,
    MemoryBudgetError,
    NotFoundError,
    PayloadTooLargeError,
    UnsupportedMediaError,
)
from app.server import logs
from app.server.logs import Event

_STATUSES: Final[tuple[tuple[type[ApplianceError], int], ...]] = (
    (PayloadTooLargeError, 413),
    (UnsupportedMediaError, 415),
    (InputError, 400),
    (NotFoundError, 404),
    (ForbiddenError, 403),
    (AuthenticationError, 401),
    (BusyError, 503),
    (KeyUnavailableError, 503),
    (MemoryBudgetError, 413),
    (DeadlineError, 504),
    (CancelledError, 503),
)
_ROUTES: Final = {404: "there is no such route", 405: "the route doesn't take this method"}


def add_handlers(application: Flask) -> None:
    """Makes every failure an answer `{"error": …}` that tells the client what it may know."""
    application.register_error_handler(ApplianceError, _appliance_error)
    application.register_error_handler(HTTPException, _http_error)
    application.register_error_handler(Exception, _unexpected)


def _appliance_error(error: ApplianceError) -> tuple[Response, int]:
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    if isinstance(error, MemoryBudgetError):
        return jsonify(
            error=f"the request needs {error.required_bytes} bytes of model memory, the budget "
            f"is {error.budget_bytes} bytes; send a smaller one"
        ), status
    if isinstance(error, DeadlineError):
        return jsonify(error="the request's timeout passed before its answer was there"), status
    if isinstance(error, CancelledError):
        return jsonify(error="the request was given up: its client has left"), status
    if status == 500:
        logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
        return jsonify(error="the model could not be run"), status
    answer = jsonify(error=str(error))
    if isinstance(error, BusyError):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 §11.6.1 asks for one
    return answer, status


def _http_error(error: HTTPException) -> tuple[Response, int]:
    answer = jsonify(error=_ROUTES.get(error.code or 500) or error.description or error.name)
    # Allow, Retry-After and the like belong to the status.
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer, error.code or 500


def _unexpected(error: Exception) -> tuple[Response, int]:
    logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
    return jsonify(error="internal error"), 500
