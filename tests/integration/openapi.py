"""The protocol as an OpenAPI document, after the public client that was generated from it.

The package `open-inference-openapi` ships its types and calls, not the document; here its types
become schemas and its calls become paths. What we answer beyond it is listed in `BEYOND`.
"""

from __future__ import annotations

from typing import Any, Final

from open_inference.openapi.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
)

BEYOND: Final = {
    401: "no credentials",
    403: "no right",
    404: "an unknown model, where the document only has 400",
    413: "more than a limit allows",
    415: "an unknown encoding",
    503: "no place in the queue",
}
"""Statuses that the document doesn't have for a route, and what they say."""

_TYPES: Final = (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
)
_MODEL: Final = "/v2/models/{model_name}"
_VERSION: Final = f"{_MODEL}/versions/{{model_version}}"


def document(models: list[str]) -> dict[str, Any]:
    """Gives the document for a server with these models, each with version 1."""
    paths = {
        "/v2": _operation("get", "MetadataServerResponse", 400),
    }
    for prefix in (_MODEL, _VERSION):
        paths |= {
            f"{prefix}/ready": _operation("get", None, 404, 503),
            prefix: _operation("get", "MetadataModelResponse", 400),
            f"{prefix}/infer": _operation("post", "InferenceResponse", 400),
        }
    for path, item in paths.items():
        item["parameters"] = [
            _parameter(name, allowed)
            for name, allowed in (("model_name", models), ("model_version", ["1"]))
            if f"{{{name}}}" in path
        ]
    return {
        "openapi": "3.0.3",
        "info": {"title": "Open Inference Protocol", "version": "2"},
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in _TYPES:
        schema = kind.schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("definitions", {})
        found[kind.__name__] = schema
    return found


def _operation(method: str, answer: str | None, *errors: int) -> dict[str, Any]:
    responses = {"200": _content(answer) if answer else {"description": "yes"}}
    statuses = {**dict.fromkeys(errors, "in the document"), **BEYOND}
    for status, description in statuses.items():
        responses[str(status)] = {**_content("InferenceErrorResponse"), "description": description}
    operation: dict[str, Any] = {"responses": responses}
    if method == "post":
        operation["requestBody"] = {**_content("InferenceRequest"), "required": True}
        del operation["requestBody"]["description"]
    return {method: operation}


def _content(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": name, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, allowed: list[str]) -> dict[str, Any]:
    schema = {"type": "string", "enum": allowed}
    return {"name": name, "in": "path", "required": True, "schema": schema}
