"""What the log keeps, and what never gets there."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from app.errors import (
    ApplianceError,
    BundleFormatError,
    ConfigError,
    ExecutionError,
    InputError,
    KeyUnavailableError,
)
from app.server import logs
from app.server.logs import FIELDS, Event, JsonFormatter
from app.tensors import Array
from tests import served
from tests.architecture.imports import modules
from tests.unit.app.server.routes.requests import INFER, SUMS

SECRET = "0123-private"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The log as the host sees it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    return stream


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in found:
        assert set(line) <= set(FIELDS), "fields of the list only"
        assert line["event"] in {event.value for event in Event}
    return found


def test_request_leaves_route_model_status_and_times(lines: io.StringIO) -> None:
    models = served.models()
    client = served.application(models, log_requests=True).test_client()
    asked = {**INFER, "id": SECRET}
    assert client.post(SUMS, json=asked, headers={"X-Request-Id": SECRET}).status_code == 200
    client.post(f"/v2/models/{SECRET}/infer", json=asked)
    client.get(f"/{SECRET}?{SECRET}")
    client.post(SUMS, data=SECRET)
    known, unknown, nowhere, wrong = read(lines)
    rule = "/v2/models/<name>/infer"
    assert (known["route"], known["model"], known["status"]) == (rule, "sums", 200)
    assert isinstance(known["queue_ms"], int)
    assert isinstance(known["duration_ms"], int)
    assert (unknown["route"], unknown["status"]) == (rule, 404)
    assert "model" not in unknown
    assert nowhere["status"] == 404
    assert "route" not in nowhere
    assert wrong["status"] == 400
    for hidden in (SECRET, "tester", "x" * 9):
        assert hidden not in lines.getvalue()


def test_requests_leave_nothing_unless_asked_for(lines: io.StringIO) -> None:
    assert served.client(served.models()).post(SUMS, json=INFER).status_code == 200
    assert lines.getvalue() == ""


def test_equal_requests_with_other_contents_leave_equal_lines(lines: io.StringIO) -> None:
    client = served.application(served.models(), log_requests=True).test_client()
    for values in ([1, 2, 3, 4], [0, -0.0, 1e-45, 3e38]):
        asked: dict[str, Any] = copy.deepcopy(INFER)
        asked["inputs"][0]["data"] = values
        assert client.post(SUMS, json=asked).status_code == 200
    times = ("time", "queue_ms", "duration_ms")
    one, other = ({k: v for k, v in line.items() if k not in times} for line in read(lines))
    assert one == other


def test_failing_run_leaves_its_place_and_no_value(lines: io.StringIO) -> None:
    """onnxruntime's messages name indices that come from tensors."""

    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        raise ExecutionError(3, "run", f"indices element out of bounds, idx={SECRET}")

    models = served.models()
    models.served["sums"].compute = fail
    assert served.client(models).post(SUMS, json=INFER).status_code == 500
    (line,) = read(lines)
    assert (line["event"], line["error"]) == ("request failed", "ExecutionError")
    assert (line["partition"], line["phase"]) == (3, "run")
    assert line["place"].startswith("test_logs.py:")
    assert SECRET not in lines.getvalue()


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (ConfigError("file", [SECRET]), True),
        (BundleFormatError(SECRET), True),
        (KeyUnavailableError(SECRET), True),
        (ExecutionError(0, "load", SECRET), True),
        (OSError(28, SECRET, "/file/name"), True),
        (ExecutionError(0, "run", SECRET), False),
        (ExecutionError(0, "bind", SECRET), False),
        (InputError(SECRET), False),
        (ApplianceError(SECRET), False),
        (ValueError(SECRET), False),
        (KeyError(SECRET), False),
        (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), False),
    ],
)
def test_texts_of_errors_stay_where_they_may_speak_of_requests(
    lines: io.StringIO, error: Exception, is_kept: bool
) -> None:
    logs.write(logging.ERROR, Event.REQUEST_FAILED, error=error)
    (line,) = read(lines)
    assert line["error"] == type(error).__name__
    assert (SECRET in lines.getvalue()) is is_kept
    assert "/file/name" not in lines.getvalue()


def test_libraries_leave_their_name_only(lines: io.StringIO) -> None:
    try:
        int(SECRET)
    except ValueError:
        logging.getLogger("somebody.else").exception("body %s", SECRET)
    (line,) = read(lines)
    assert (line["event"], line["logger"]) == ("library", "somebody.else")
    assert SECRET not in lines.getvalue()


def test_uncaught_exceptions_leave_their_place_only(
    lines: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.excepthook", None)
    monkeypatch.setattr("threading.excepthook", None)
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)
    logs.set_up(io.StringIO())

    def fail() -> None:
        raise LookupError(SECRET)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    (line,) = read(lines)
    assert (line["event"], line["error"]) == ("thread failed", "LookupError")
    assert SECRET not in lines.getvalue() + capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(set(modules("app")) - {"app.server.logs"}))
def test_nobody_else_logs(name: str) -> None:
    """Texts would go past the list of fields."""
    text = modules("app")[name].read_text(encoding="utf-8")
    assert not re.search(
        r"getLogger|basicConfig|import traceback|print_exc|\.logger\b"
        r"|logging\.(debug|info|warning|error|exception|critical|log)\(",
        text,
    )


@pytest.mark.parametrize(
    "text", ["\x1b]0;owned\x07", "\x9b2J", "a\nb\rc", "\u202eb", "\x7f\0", "\ud800"]
)
def test_no_line_steers_the_terminal_that_shows_it(lines: io.StringIO, text: str) -> None:
    """Files have names that anybody chose, and errors of files are logged."""
    logs.write(logging.ERROR, Event.REQUEST_FAILED, error=BundleFormatError(text), model=text)
    logging.getLogger(text).error(text)
    shown = lines.getvalue()
    assert shown.isascii()
    assert shown.replace("\n", "").isprintable()
    assert shown.count("\n") == 2, "a line of its own would look like another event"
    failed, _ = read(lines)
    assert failed["problem"] == text
