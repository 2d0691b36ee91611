"""What a model is, how it is configured, whether it can be asked, and what it has done."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from app.errors import BusyError
from app.server.oip.config import model_config
from app.server.oip.metadata import bundle_parameter, model_metadata
from app.server.oip.statistics import model_statistics
from app.server.routes.rights import admission, may_use, needs
from app.server.routes.served import Models

_MODEL = "/v2/models/<name>"
_VERSION = f"{_MODEL}/versions/<version>"


def add_routes(application: Flask, catalogue: Models) -> None:
    """Adds the routes that only tell."""

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
        versions = [str(model.version)] if version else _versions(catalogue, name)
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

    @application.get("/v2/models/stats")
    @application.get(f"{_MODEL}/stats")
    @application.get(f"{_VERSION}/stats")
    @needs("metrics")
    def stats(name: str | None = None, version: str | None = None) -> Response:
        known = admission()
        return jsonify(
            model_stats=[
                model_statistics(each)
                for each in catalogue.statistics(name, version)
                if may_use(known, each.name)
            ]
        )


def _versions(catalogue: Models, name: str) -> list[str]:
    """The versions that can be asked by number."""
    return [
        str(model.version)
        for model in catalogue.models()
        if model.model_id == name and model.is_available
    ]
