"""Extensions of the protocol that an enclave doesn't have, and why."""

from __future__ import annotations

from functools import partial
from typing import Final

from flask import Flask, Response

from app.server.routes.failures import error_response

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
_NOT_IMPLEMENTED: Final = 501


def add_routes(application: Flask) -> None:
    """Adds routes that answer 501 with the reason."""
    for number, (path, reason) in enumerate(_REFUSED.items()):
        view = partial(_refuse, reason)
        application.add_url_rule(path, f"refused-{number}", view, methods=["GET", "POST"])


def _refuse(reason: str, rest: str = "") -> Response:
    del rest
    return error_response(_NOT_IMPLEMENTED, reason)
