"""What the server and its models are, whether they can be asked, what they did; what isn't there.

Nothing here changes anything.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from flask import Flask, Response, jsonify, request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app import __version__
from app.audit import Audit
from app.errors import BusyError
from app.server.counters import TRANSPORT
from app.server.metrics import Figures, render
from app.server.oip.describe import (
    EXTENSIONS,
    bundle_parameter,
    model_config,
    model_metadata,
    model_statistics,
)
from app.server.routes.failures import error_response
from app.server.routes.rights import admission, may_use, needs
from app.serving.catalogue import Catalogue
from app.serving.statistics import Statistics

_MODEL: Final = "/v2/models/<name>"
_VERSION: Final = f"{_MODEL}/versions/<version>"
_ALL_STATISTICS: Final = "stats"
"""Where the protocol has the statistics of all models; a model may have this name as well."""

_NO_SHARED_MEMORY: Final = (
    "shared memory isn't served: the host could read and change it behind the enclave's back; "
    "send tensors as binary data"
)
_NO_TRACE: Final = "tracing isn't served: a trace would tell the host about requests"
_NO_LOGGING: Final = "log settings aren't served: they are fixed and measured with the image"
_REFUSED: Final = {
    "/v2/systemsharedmemory": _NO_SHARED_MEMORY,
    "/v2/systemsharedmemory/<path:rest>": _NO_SHARED_MEMORY,
    "/v2/cudasharedmemory": _NO_SHARED_MEMORY,
    "/v2/cudasharedmemory/<path:rest>": _NO_SHARED_MEMORY,
    "/v2/trace/setting": _NO_TRACE,
    "/v2/models/<rest>/trace/setting": _NO_TRACE,
    "/v2/logging": _NO_LOGGING,
}
"""Extensions of the protocol that an enclave doesn't have."""

_NOT_IMPLEMENTED: Final = 501


def add_routes(application: Flask, catalogue: Catalogue, audit: Audit) -> None:
    """Adds the routes that only tell."""
    _add_model_routes(application, catalogue)
    for path, reason in _REFUSED.items():
        view = partial(_refuse, reason)
        application.add_url_rule(path, f"refused-{path}", view, methods=["GET", "POST"])

    @application.get("/v2")
    @needs("metadata")
    def server_metadata() -> Response:
        return jsonify(
            name="cloister", version=__version__, extensions=EXTENSIONS, audit=audit.describe()
        )

    @application.get("/metrics")
    @needs("metrics")
    def metrics() -> Response:
        """In Prometheus' text format; of models those that the tenant may know of."""
        transport = request.environ.get(TRANSPORT)
        figures = Figures(
            audit,
            _statistics(catalogue),
            catalogue.budget_bytes,
            catalogue.used_bytes,
            None if transport is None else transport(),
        )
        return Response(render(figures), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _add_model_routes(application: Flask, catalogue: Catalogue) -> None:
    @application.get("/v2/models")
    @needs("metadata")
    def listed() -> Response:
        known = admission()
        return jsonify(
            models=[
                {
                    "name": model.model_id,
                    "version": str(model.version),
                    "ready": model.is_available,
                    "properties": bundle_parameter(model.bundle_id),
                }
                for model in catalogue.models()
                if may_use(known, model.model_id)
            ]
        )

    @application.get(_MODEL)
    @application.get(_VERSION)
    @needs("metadata")
    def metadata(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        can_be_asked = [
            each for each in catalogue.models() if each.model_id == name and each.is_available
        ]
        versions = [str(each.version) for each in ([model] if version else can_be_asked)]
        return jsonify(model_metadata(model.model_id, versions, model.card, model.bundle_id))

    @application.get(f"{_MODEL}/ready")
    @application.get(f"{_VERSION}/ready")
    @needs("metadata")
    def model_ready(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        if not model.is_available:
            raise BusyError(f"model {name!r} version {model.version} isn't ready")
        return jsonify(name=model.model_id, ready=True)

    @application.get(f"{_MODEL}/config")
    @application.get(f"{_VERSION}/config")
    @needs("metadata")
    def config(name: str, version: str | None = None) -> Response:
        model = catalogue.find(name, version)
        return jsonify(model_config(model.model_id, model.card))

    @application.get(f"{_MODEL}/stats")
    @application.get(f"{_VERSION}/stats")
    @needs("metrics")
    def statistics(name: str | None = None, version: str | None = None) -> Response:
        counted = _statistics(catalogue, name, version)
        return jsonify(model_stats=[model_statistics(counters) for counters in counted])

    @application.get(f"/v2/models/{_ALL_STATISTICS}")
    def all_statistics() -> Response:
        """Of a model that is called so the metadata, like those of every other one."""
        is_model = any(model.model_id == _ALL_STATISTICS for model in catalogue.models())
        if is_model and may_use(admission(), _ALL_STATISTICS):
            return metadata(name=_ALL_STATISTICS)
        return statistics()


def _statistics(
    catalogue: Catalogue, name: str | None = None, version: str | None = None
) -> list[Statistics]:
    """Gives those of models that the tenant may know of."""
    known = admission()
    return [
        counters
        for counters in catalogue.statistics(name, version)
        if may_use(known, counters.name)
    ]


def _refuse(reason: str, rest: str = "") -> Response:
    del rest
    return error_response(_NOT_IMPLEMENTED, reason)
