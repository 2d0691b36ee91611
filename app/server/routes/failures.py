"""Errors as statuses; one of the two places where they are translated."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
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
from app.server.oip.response import padded_line

_STATUSES: Final[Mapping[int, tuple[type[ApplianceError], ...]]] = {
    413: (PayloadTooLargeError, MemoryBudgetError),
    415: (UnsupportedMediaError,),
    400: (InputError,),
    404: (NotFoundError,),
    403: (ForbiddenError,),
    401: (AuthenticationError,),
    504: (DeadlineError,),
    503: (BusyError, KeyUnavailableError, BundleReadError, BundleRefusedError, CancelledError),
}
"""The first that fits counts: kinds of others come before them."""

_ROUTES: Final = {404: "there is no such route", 405: "the route doesn't take this method"}


def add_handlers(application: Flask) -> None:
    """Makes every failure an answer `{"error": …}` that tells the client what it may know."""
    application.register_error_handler(HTTPException, _http_error)
    application.register_error_handler(ApplianceError, _error)
    application.register_error_handler(Exception, _error)


def error_response(status: int, message: str) -> Response:
    """Gives an answer that says what was wrong, padded as what quotes a request differs in size."""
    body = padded_line(error_body(message).rstrip())
    return Response(body, status, content_type="application/json")


def _error(error: Exception) -> Response:
    status = next((code for code, kinds in _STATUSES.items() if isinstance(error, kinds)), 500)
    text = error.client_text if isinstance(error, ApplianceError) else "internal error"
    if status == 500 or isinstance(error, BundleReadError | KeyUnavailableError):
        logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
    answer = error_response(status, text)
    if isinstance(error, BusyError):
        answer.headers["Retry-After"] = str(error.retry_after_s)
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 §11.6.1 asks for one
    return answer


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    answer = error_response(status, _ROUTES.get(status) or HTTPStatus(status).phrase)
    # Allow, Retry-After and the like belong to the status.
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer
