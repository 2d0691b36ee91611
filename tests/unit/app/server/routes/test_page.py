"""The page as the server gives it; what a browser makes of it is tested in tests/browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser

import pytest

from app import __version__
from app.access.admission import PAGE_PATHS
from app.audit import Audit
from app.runtime import Runtime
from app.server.application import create_application
from tests import served

PATHS = sorted(path.decode() for path in PAGE_PATHS)
FINGERPRINT = "sha256 " + ":".join(["AB"] * 32)


class _Elements(HTMLParser):
    """Collects elements with their attributes, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def get(
    path: str = "/", runtime: Runtime = Runtime.PROCESS, fingerprint: str | None = FINGERPRINT
) -> tuple[Mapping[str, str], str]:
    """Gives headers and text."""
    application = create_application(
        served.catalogue(served.models()), Audit(runtime), fingerprint=lambda: fingerprint
    )
    answer = application.test_client().get(path)
    assert answer.status_code == 200
    return dict(answer.headers), answer.get_data(as_text=True)


def policy(headers: Mapping[str, str]) -> dict[str, list[str]]:
    """Reads the Content-Security-Policy."""
    directives = [each.split() for each in headers["Content-Security-Policy"].split(";")]
    return {name: values for name, *values in directives}


@pytest.mark.parametrize("path", PATHS)
def test_only_the_own_origin_and_nothing_inline(path: str) -> None:
    headers, _ = get(path)
    found = policy(headers)
    assert found.pop("default-src") == ["'none'"]
    assert {name: found.pop(name) for name in ("script-src", "style-src", "connect-src")} == {
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
    }
    assert found.pop("img-src") == ["'self'", "blob:"]
    assert found.pop("require-trusted-types-for") == ["'script'"]
    names = {"base-uri", "form-action", "frame-ancestors", "trusted-types"}
    assert found == {name: ["'none'"] for name in names}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", PATHS)
def test_no_foreign_address(path: str) -> None:
    _, text = get(path)
    text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|(?<![:/])//\w+\.|@import|url\(|data:", text)


def test_nothing_inline_that_the_policy_would_refuse() -> None:
    page = _Elements(get()[1])
    for tag, attributes in page.found:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    assert all("src" in script for script in page.named("script"))


def test_every_file_of_the_page_is_served_and_used() -> None:
    page = _Elements(get()[1])
    used = {link["href"] for link in page.named("link")}
    used |= {each["src"] for each in page.named("script", "img") if "src" in each}
    assert used | {"/"} == set(PATHS)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page/style.css", "text/css"),
        ("/page/script.js", "text/javascript"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_types(path: str, kind: str) -> None:
    assert get(path)[0]["Content-Type"].split(";")[0] == kind


@pytest.mark.parametrize("runtime", Runtime)
def test_a_simulation_is_said_loudly(runtime: Runtime) -> None:
    page = _Elements(get(runtime=runtime)[1])
    [note] = [each for each in page.named("p") if each.get("role") == "note"]
    assert ("simulation" in note["class"]) is runtime.is_simulation
    assert (f"SIMULATION ({runtime.value})" in page.text) is runtime.is_simulation
    assert ("the host can read" in page.text) is runtime.is_simulation
    assert runtime.value in page.text


def test_version_and_fingerprint_stand_on_the_page() -> None:
    text = _Elements(get()[1]).text
    assert FINGERPRINT.removeprefix("sha256 ") in text
    assert __version__ in text
    assert "This page can't prove any of it" in text


@pytest.mark.parametrize(("fingerprint", "shown"), [(None, "unknown"), ("<b>&", "<b>&")])
def test_what_is_filled_in_is_text(fingerprint: str | None, shown: str) -> None:
    page = _Elements(get(fingerprint=fingerprint)[1])
    assert shown in page.text
    assert page.found[-1][0] != "b"


def test_the_fingerprint_is_asked_for_at_every_visit() -> None:
    """A certificate may be renewed while the server runs."""
    fingerprints = iter(["sha256 01", "sha256 02"])
    application = create_application(
        served.catalogue(served.models()),
        Audit(Runtime.PROCESS),
        fingerprint=lambda: next(fingerprints),
    )
    client = application.test_client()
    assert [f">{number}<" in client.get("/").get_data(as_text=True) for number in ("01", "02")] == [
        True,
        True,
    ]


def test_controls_have_labels_and_headings_are_in_order() -> None:
    page = _Elements(get()[1])
    labelled = {label["for"] for label in page.named("label")}
    assert {each["id"] for each in page.named("input", "select")} == labelled
    assert page.named("html") == [{"lang": "en"}]
    assert all("alt" in each for each in page.named("img"))
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    identifiers = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
