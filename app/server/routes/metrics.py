"""The route for metrics, in Prometheus' text format; it has a right of its own."""

from __future__ import annotations

from flask import Flask, Response, request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.audit import Audit
from app.server.counters import TRANSPORT
from app.server.metrics import Figures, render
from app.server.routes.rights import admission, may_use, needs
from app.server.routes.served import Models


def add_routes(application: Flask, catalogue: Models, audit: Audit) -> None:
    """Adds the route. Of models it shows those that the tenant may know of."""

    @application.get("/metrics")
    @needs("metrics")
    def metrics() -> Response:
        known = admission()
        transport = request.environ.get(TRANSPORT)
        figures = Figures(
            audit,
            [each for each in catalogue.statistics(None, None) if may_use(known, each.name)],
            catalogue.budget_bytes,
            catalogue.used_bytes,
            None if transport is None else transport(),
        )
        return Response(render(figures), content_type=CONTENT_TYPE_PLAIN_0_0_4)
