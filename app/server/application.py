"""The Flask application, put together of its routes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

from flask import Flask, Request

from app.audit import Audit
from app.limits import MAX_BODY_BYTES
from app.server.logs import add_request_log
from app.server.routes import (
    classify,
    failures,
    health,
    infer,
    metrics,
    models,
    page,
    refused,
    repository,
)
from app.server.routes.bodies import DecodingTurn
from app.server.routes.served import Models
from app.server.routes.waiting import queued_ns


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


def create_application(
    catalogue: Models,
    audit: Audit,
    *,
    log_requests: bool = False,
    fingerprint: Callable[[], str | None] = lambda: None,
) -> Flask:
    """Makes the application.

    Args:
        catalogue: the models to serve.
        audit: what the process is and what weakens it.
        log_requests: whether every request leaves a line in the log.
        fingerprint: of the server's certificate; None where none is known.
    """
    application = _Application("cloister", static_folder=None)
    application.json.sort_keys = False  # type: ignore[attr-defined]
    application.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    application.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    turn = DecodingTurn()
    failures.add_handlers(application)
    health.add_routes(application, audit)
    models.add_routes(application, catalogue)
    infer.add_routes(application, catalogue, turn)
    classify.add_routes(application, catalogue, audit.runtime, turn)
    metrics.add_routes(application, catalogue, audit)
    repository.add_routes(application, catalogue)
    refused.add_routes(application)
    page.add_routes(application, audit.runtime, fingerprint)
    if log_requests:
        add_request_log(
            application,
            lambda name: any(model.model_id == name for model in catalogue.models()),
            queued_ns,
        )
    return application
