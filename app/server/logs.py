"""The log: one JSON object per line, of a fixed list of events and fields.

The host reads it. So a line holds no free text: nothing of a request but its
route, its model's name once that is known to be one, its status and whole
milliseconds. No body, tensor, tenant, credential, address, nor id that a client
gave. Of an exception only its class and place are kept, and its text where that
speaks of files and configuration; onnxruntime's speaks of values in tensors.
"""

from __future__ import annotations

import datetime
import enum
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO, TypedDict, Unpack

from flask import Flask, Response, g, request

from app.errors import (
    AttestationError,
    BundleError,
    ConfigError,
    ExecutionError,
    KeyUnavailableError,
)


class Fields(TypedDict, total=False):
    """What a line may say beside its event and error; None is left out.

    Attributes:
        fingerprint: of the server's certificate.
        route: the rule of the application that took the request, not its path.
        model: one that is served, never just what a client wrote.
        status: of the answer.
        queue_ms: waiting for a worker.
        duration_ms: after that.
    """

    fingerprint: str
    route: str | None
    model: str | None
    status: int
    queue_ms: int
    duration_ms: int


FIELDS: Final = (
    *("time", "level", "event", "logger", "error", "place", "problem", "partition", "phase"),
    *Fields.__annotations__,
)
"""Every field that a line may have."""

_LOGGER: Final = logging.getLogger("cloister")
_FIELDS: Final = "cloister_fields"
_NS_PER_MS: Final = 1_000_000
_OPERATORS: Final = (ConfigError, BundleError, KeyUnavailableError, AttestationError)
"""Errors whose text says nothing of a request: it is for the operator."""


class Event(enum.Enum):
    """What a line may be about."""

    REQUEST = "request"
    REQUEST_FAILED = "request failed"
    CONNECTION_DROPPED = "connection dropped"
    CLIENT_NOT_SERVED = "client not served"
    ACCEPTING_PAUSED = "accepting paused"
    CERTIFICATE_RENEWED = "certificate renewed"
    CERTIFICATE_KEPT = "certificate kept"
    THREAD_FAILED = "thread failed"
    LIBRARY = "library"
    """A library logged something; only its logger's name is kept."""


class JsonFormatter(logging.Formatter):
    """Writes what `write` made of an event; of any other record only who made it."""

    def format(self, record: logging.LogRecord) -> str:
        """Gives one line; the record's message, arguments and traceback aren't looked at."""
        library = {"event": Event.LIBRARY.value, "logger": record.name}
        fields = getattr(record, _FIELDS, library)
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        stamp = moment.isoformat(timespec="milliseconds")
        return json.dumps({"time": stamp, "level": record.levelname, **fields})


def set_up(stream: TextIO) -> None:
    """Sends the log of the whole process to a stream, uncaught exceptions included."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _thread_failed
    sys.excepthook = lambda _, error, __: write(logging.CRITICAL, Event.THREAD_FAILED, error=error)


def _thread_failed(failed: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
    write(logging.ERROR, Event.THREAD_FAILED, error=failed.exc_value)


def write(
    level: int, event: Event, *, error: BaseException | None = None, **more: Unpack[Fields]
) -> None:
    """Logs an event.

    Args:
        level: of `logging`.
        event: what happened.
        error: why; what is safe of it is kept.
        more: what else is known of it.
    """
    described = {} if error is None else _describe(error)
    given = {"event": event.value, **described, **more}
    fields = {name: value for name, value in given.items() if value is not None}
    _LOGGER.log(level, "%s", json.dumps(fields), extra={_FIELDS: fields})


def _describe(error: BaseException) -> dict[str, object]:
    fields: dict[str, object] = {"error": type(error).__name__, "place": _place(error)}
    if isinstance(error, ExecutionError):
        fields |= {"partition": error.partition, "phase": error.phase}
        if error.phase == "load":  # no tensor of a request is there yet
            fields["problem"] = str(error)
    elif isinstance(error, _OPERATORS):
        fields["problem"] = str(error)
    elif isinstance(error, OSError) and error.strerror:
        fields["problem"] = error.strerror
    return fields


def _place(error: BaseException) -> str | None:
    """Gives the file and line that raised."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return None
    frame, line = frames[-1]
    return f"{Path(frame.f_code.co_filename).name}:{line}"


def add_request_log(
    application: Flask, is_model: Callable[[str], bool], queued_ns: Callable[[], int]
) -> None:
    """Logs a line for every request that a worker has answered.

    Args:
        application: whose requests.
        is_model: whether there is a model of that name.
        queued_ns: how long the present request has waited for a worker.
    """

    @application.before_request
    def begin() -> None:
        g.started_ns = time.perf_counter_ns()

    @application.after_request
    def end(response: Response) -> Response:
        name = (request.view_args or {}).get("name")
        write(
            logging.INFO,
            Event.REQUEST,
            route=request.url_rule.rule if request.url_rule else None,
            model=name if name is not None and is_model(name) else None,
            status=response.status_code,
            queue_ms=queued_ns() // _NS_PER_MS,
            duration_ms=(time.perf_counter_ns() - g.started_ns) // _NS_PER_MS,
        )
        return response
