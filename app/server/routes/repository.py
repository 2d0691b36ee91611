"""The model repository extension: what there is, load, unload."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, jsonify

from app.errors import InputError
from app.fields import FieldError, Fields, parse_json
from app.limits import MAX_JSON_BYTES
from app.server.oip.describe import READY, repository_entry
from app.server.routes.bodies import read_body
from app.server.routes.rights import admission, may_use, needs
from app.serving.catalogue import Catalogue

_MODEL: Final = "/v2/repository/models/<name>"
_MAX_BYTES: Final = min(64 * 1024, MAX_JSON_BYTES)
"""A request without tensors."""


def add_routes(application: Flask, catalogue: Catalogue) -> None:
    """Adds the repository's routes."""

    @application.post("/v2/repository/index")
    @needs("metadata")
    def index() -> Response:
        only_ready = _read_index()
        known = admission()
        return jsonify(
            [
                repository_entry(entry)
                for entry in catalogue.index()
                if may_use(known, entry.name) and (entry.state == READY or not only_ready)
            ]
        )

    @application.post(f"{_MODEL}/load")
    @needs("manage")
    def load(name: str) -> Response:
        _read_change(())
        catalogue.load(name)
        return jsonify({})

    @application.post(f"{_MODEL}/unload")
    @needs("manage")
    def unload(name: str) -> Response:
        _read_change(("unload_dependents",))  # there are none
        catalogue.unload(name)
        return jsonify({})


def _read_index() -> bool:
    """Says whether only models that are ready are asked for."""
    fields = _fields()
    try:
        only_ready = fields.flag("ready") if fields.has("ready") else False
        fields.done()
    except FieldError as error:
        raise InputError(str(error)) from error
    return only_ready


def _read_change(allowed: tuple[str, ...]) -> None:
    """Checks the body of a load or unload request."""
    fields = _fields()
    try:
        if fields.has("parameters"):
            parameters = fields.inner("parameters")
            _refuse_contents(parameters)
            for name in allowed:
                if parameters.has(name):
                    parameters.flag(name)
            parameters.done()
        fields.done()
    except FieldError as error:
        raise InputError(str(error)) from error


def _refuse_contents(parameters: Fields) -> None:
    for name in parameters.names():
        if name == "config" or name.startswith("file:"):
            raise FieldError(
                f"{parameters.where}.{name[:40]}: a model is served as its owner has signed it; "
                "it can't be changed by a request"
            )


def _fields() -> Fields:
    """An empty body stands for an empty object."""
    raw = read_body(_MAX_BYTES, "a request to the repository")
    try:
        return Fields(parse_json(raw) if raw else {}, "request")
    except FieldError as error:
        raise InputError(str(error)) from error
