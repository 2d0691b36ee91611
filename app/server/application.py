"""The Flask application, put together of its routes."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from app.audit import Audit
from app.server.logs import add_request_log
from app.server.routes import classify, failures, infer, metadata, page, repository
from app.server.routes.bodies import DecodedRoom
from app.server.routes.timing import queued_ns
from app.serving.accounts import Accounts
from app.serving.catalogue import Catalogue


def create_application(
    catalogue: Catalogue,
    audit: Audit,
    *,
    accounts: Accounts | None = None,
    log_requests: bool = False,
    fingerprint: Callable[[], str | None] = lambda: None,
) -> Flask:
    """Makes the application.

    Args:
        catalogue: the models to serve.
        audit: what the process is and what weakens it.
        accounts: what clients cost, in the order of which they get room; the server's.
        log_requests: whether every request leaves a line in the log.
        fingerprint: of the server's certificate; None where none is known.
    """
    application = Flask("cloister", static_folder=None)
    application.json.sort_keys = False  # type: ignore[attr-defined]
    room = DecodedRoom(accounts or Accounts())
    failures.add_handlers(application)
    metadata.add_routes(application, catalogue, audit)
    infer.add_routes(application, catalogue, room)
    classify.add_routes(application, catalogue, audit.runtime, room)
    repository.add_routes(application, catalogue)
    page.add_routes(application, audit.runtime, fingerprint)
    # Compiled now: threads that do so at the same time can break each other's work.
    application.url_map.update()
    if log_requests:
        add_request_log(
            application,
            lambda name: any(model.model_id == name for model in catalogue.models()),
            queued_ns,
        )
    return application
