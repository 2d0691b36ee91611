"""A server, or a model's owner, whose texts would steer the terminal of who asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.app.server.clients import identity, serving
from tests.unit.app.server.routes.requests import picture
from tools.commands.client import main
from tools.errors import ServingError
from tools.serving_client.answers import read_classification, read_infer, read_inputs
from tools.serving_client.connection import Reply

EVIL = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[1;1Hall is well",
    "\x9b2J",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;cm0gLXJm\x07",
    "yes\u202eon",
    "a\u2066b\u2069",
    "one\nerror: another line",
    "back\r\b\b\b",
    "[link=https://evil.example]click[/link] [blink]now[/]",
]


class Server:
    """Answers everything with the same status and body."""

    def __init__(self, folder: Path) -> None:
        self.status, self.body = "200 OK", b""
        self.address = ("", 0)
        self.certificate = folder / "certificate.pem"
        self.certificate.write_bytes(identity().certificate_pem)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read()
        size = str(len(self.body))
        start_response(
            self.status, [("Content-Type", "application/json"), ("Content-Length", size)]
        )
        return [self.body]

    def asked(self, status: str, body: object, *arguments: str) -> None:
        """Runs the command against it."""
        self.status, self.body = status, json.dumps(body).encode()
        url = f"https://localhost:{self.address[1]}"
        main(["--url", url, "--cacert", str(self.certificate), *arguments])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server"))
    with serving(found) as running:
        found.address = running.address
        yield found


def assert_harmless(shown: str) -> None:
    assert not [each for each in shown if not each.isprintable() and each != "\n"], shown
    assert "evil.example\x1b" not in shown


def answers(text: str) -> list[tuple[tuple[str, ...], object]]:
    """Commands with what a hostile server could say to them."""
    label = {"label": text, "index": 0, "probability": 0.5}
    classes = {"labels": [label], "timing": {}, "runtime": text}
    output = {"name": text, "datatype": "BYTES", "shape": [1], "data": [text]}
    numbers = {"name": text, "datatype": "FP32", "shape": [1], "data": [1]}
    answer = {
        "model_name": text,
        "model_version": text,
        "outputs": [output, numbers | {"name": "b"}],
    }
    inputs = [{"name": text, "datatype": "FP32", "shape": [1]}]
    whole = {**answer, **classes, "inputs": inputs, "name": text, "model_stats": [{"name": text}]}
    return [
        (("classify", "m", "PICTURE"), whole),
        (("infer", "m", "x=ARRAY", "--json"), whole),
        (("try", "m"), whole),
        (("example", "m"), whole),
        (("metadata",), whole),
        (("statistics",), whole),
        (("models",), [{"name": text, "reason": text}]),
        (("ready",), whole),
    ]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "a.png").write_bytes(picture())
    np.save(tmp_path / "a.npy", np.ones(1, "f4"))
    return {"PICTURE": str(tmp_path / "a.png"), "x=ARRAY": f"x={tmp_path / 'a.npy'}"}


@pytest.mark.parametrize("text", EVIL)
def test_no_answer_steers_the_terminal(
    text: str, server: Server, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, answer in answers(text):
        server.asked("200 OK", answer, *(files.get(each, each) for each in arguments))
        shown = capsys.readouterr()
        assert shown.out, (arguments, shown.err)
        assert_harmless(shown.out + shown.err)
        if arguments[0] == "classify" and "[link" in text:
            assert "[link=" in shown.out, "it is text, not a link"


@pytest.mark.parametrize("text", EVIL)
def test_no_refusal_does(
    text: str, server: Server, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.asked("400 Bad Request", {"error": text}, "classify", "m", files["PICTURE"])
    shown = capsys.readouterr()
    assert_harmless(shown.out + shown.err)
    assert shown.err.count("\n") == 1, "a line of its own would look like another error"


@pytest.mark.parametrize("text", EVIL)
def test_nor_does_an_answer_that_is_none(text: str) -> None:
    """What a parser says of it may quote it; it is in an error of ours then."""
    bodies = [text, {text: text}, {"outputs": [{"name": text, "datatype": text}]}, {"labels": text}]
    for body in bodies:
        for read in (read_infer, read_classification, read_inputs):
            with pytest.raises(ServingError) as refused:
                read(Reply({"inference-header-content-length": text}, json.dumps(body).encode()))
            assert str(refused.value).isprintable()
