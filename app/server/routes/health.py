"""Whether the server lives, and what it can do."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from app import __version__
from app.audit import Audit
from app.server.oip.metadata import EXTENSIONS
from app.server.routes.rights import needs


def add_routes(application: Flask, audit: Audit) -> None:
    """Adds the health routes, which are open, and the server's metadata with its self-audit."""

    @application.get("/v2")
    @needs("metadata")
    def server_metadata() -> Response:
        return jsonify(
            name="cloister", version=__version__, extensions=EXTENSIONS, audit=audit.describe()
        )

    @application.get("/v2/health/live")
    def live() -> Response:
        return jsonify(live=True)

    @application.get("/v2/health/ready")
    def ready() -> Response:
        return jsonify(ready=True)
