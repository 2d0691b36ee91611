"""Errors as statuses; one of the two places where they are translated."""

from __future__ import annotations

import logging
from typing import Final

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from app.errors import (
    ApplianceError,
    AuthenticationError,
    BundleReadError,
    BundleRefusedError,
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
from app.server.framing import error_body
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
    (BundleReadError, 503),
    (BundleRefusedError, 503),
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


def error_response(status: int, message: str) -> Response:
    """Gives an answer that says what was wrong."""
    return Response(error_body(message), status, content_type="application/json")


def _appliance_error(error: ApplianceError) -> Response:
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    if isinstance(error, MemoryBudgetError):
        return error_response(
            status,
            f"the request needs {error.required_bytes} bytes of model memory, the budget "
            f"is {error.budget_bytes} bytes; send a smaller one",
        )
    if isinstance(error, DeadlineError):
        return error_response(status, "the request's timeout passed before its answer was there")
    if isinstance(error, CancelledError):
        return error_response(status, "the request was given up: its client has left")
    text = "the model could not be run" if status == 500 else error.client_text
    if text != str(error):  # the log has what a client isn't told
        logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
    answer = error_response(status, text)
    if isinstance(error, BusyError):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 §11.6.1 asks for one
    return answer


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    answer = error_response(status, _ROUTES.get(status) or error.description or error.name)
    # Allow, Retry-After and the like belong to the status.
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def _unexpected(error: Exception) -> Response:
    logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
    return error_response(500, "internal error")
