"""The model repository extension: what there is, load, unload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from flask import Flask, Response, jsonify

from app.errors import InputError
from app.fields import FieldError, Fields, parse_json
from app.limits import KIB
from app.server.oip.describe import READY, repository_entry
from app.server.routes.bodies import read_body
from app.server.routes.rights import admission, may_use, needs
from app.serving.catalogue import Catalogue

T = TypeVar("T")

_MODEL: Final = "/v2/repository/models/<name>"
_MAX_BYTES: Final = 64 * KIB
"""A request without tensors."""


def add_routes(application: Flask, catalogue: Catalogue) -> None:
    """Adds the repository's routes."""

    @application.post("/v2/repository/index")
    @needs("metadata")
    def index() -> Response:
        only_ready = _read(lambda fields: fields.has("ready") and fields.flag("ready"))
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
        _read(_check_change)
        catalogue.load(name)
        return jsonify({})

    @application.post(f"{_MODEL}/unload")
    @needs("manage")
    def unload(name: str) -> Response:
        _read(lambda fields: _check_change(fields, "unload_dependents"))  # there are none
        catalogue.unload(name)
        return jsonify({})


def _read(take: Callable[[Fields], T]) -> T:
    """Reads the request's body; an empty one stands for an empty object."""
    raw = read_body(_MAX_BYTES, "a request to the repository")
    try:
        fields = Fields(parse_json(raw) if raw else {}, "request")
        value = take(fields)
        fields.done()
    except FieldError as error:
        raise InputError(str(error)) from error
    return value


def _check_change(fields: Fields, *flags: str) -> None:
    """Takes the parameters of a load or unload request, of which only `flags` are allowed."""
    if not fields.has("parameters"):
        return
    parameters = fields.inner("parameters")
    for name in parameters.names():
        if name == "config" or name.startswith("file:"):
            raise FieldError(
                f"{parameters.where}.{name[:40]}: a model is served as its owner has signed it; "
                "it can't be changed by a request"
            )
        if name in flags:
            parameters.flag(name)
    parameters.done()
