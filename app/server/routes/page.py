"""The page for people. It is the same for everybody and holds nothing that TLS hasn't shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from importlib import resources
from string import Template
from typing import Final

from flask import Flask, Response

from app import __version__
from app.runtime import Runtime

_FILES: Final = resources.files("app.server.page")
_PAGE: Final = Template(_FILES.joinpath("index.html").read_text(encoding="utf-8"))
_ASSETS: Final[Mapping[str, tuple[str, bytes]]] = {
    f"/page/{name}": (kind, _FILES.joinpath(name).read_bytes())
    for name, kind in (
        ("style.css", "text/css; charset=utf-8"),
        ("script.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    )
}
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # blob: shows the chosen picture before it is sent
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def add_routes(application: Flask, runtime: Runtime, fingerprint: Callable[[], str | None]) -> None:
    """Adds the page and its files. The page says loudly when the runtime protects nothing."""

    @application.get("/")
    def page() -> Response:
        return _answer("text/html; charset=utf-8", _render(runtime, fingerprint()))

    for path, (kind, content) in _ASSETS.items():
        application.add_url_rule(path, path, partial(_answer, kind, content))


def _render(runtime: Runtime, fingerprint: str | None) -> str:
    headline, _, sentence = runtime.banner.partition(": ")
    facts = {
        "kind": "simulation" if runtime.is_simulation else "enclave",
        "headline": f"{headline}:",
        "sentence": f"{sentence}.",
        "runtime": runtime.value,
        "version": __version__,
        "fingerprint": (fingerprint or "unknown").removeprefix("sha256 "),
    }
    safe = {name: escape(text) for name, text in facts.items()}
    safe["fingerprint"] = safe["fingerprint"].replace(":", ":<wbr>")  # lines break between bytes
    return _PAGE.substitute(safe)


def _answer(content_type: str, content: str | bytes) -> Response:
    return Response(content, headers=_HEADERS, content_type=content_type)
