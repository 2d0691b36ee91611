"""The appliance is asked over verified TLS only, and what it says is understood or named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.limits import MAX_JSON_BYTES
from app.tensors import Array
from tests.unit.app.server.clients import identity, rsa_identity, serving
from tools.accuracy.remote import Address, Remote, TooLargeError, as_json_carries
from tools.errors import AccuracyError

Answer = tuple[int, bytes]
INPUTS = {"x": np.array([[1.5, -0.0, 1e-40]], dtype=np.float32)}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    path.write_bytes(identity().certificate_pem)
    return path


@contextmanager
def remote(
    certificate: Path, answer: Callable[[str, bytes], Answer], *, host: str = "localhost"
) -> Iterator[Remote]:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        status, body = answer(environ["PATH_INFO"], environ["wsgi.input"].read(size))
        length = ("Content-Length", str(len(body)))
        start(f"{status} x", [("Content-Type", "application/json"), length])
        return [body]

    with serving(application) as server:
        port = server.address[1]
        with closing(Remote(Address(host, port), certificate)) as found:
            yield found


def says(status: int, content: object) -> Callable[[str, bytes], Answer]:
    return lambda _route, _body: (status, json.dumps(content).encode())


def infer(found: Remote) -> dict[str, Array]:
    return found.infer("m", 3, INPUTS)


def test_a_request_and_its_answer(certificate: Path) -> None:
    asked: list[tuple[str, bytes]] = []
    outputs = [
        {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [0.1, None, -0.0]},
        {"name": "n", "datatype": "INT64", "shape": [2], "data": [2**62 + 1, -1]},
        {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["wörd"]},
    ]

    def answer(route: str, body: bytes) -> Answer:
        asked.append((route, body))
        return 200, json.dumps({"outputs": outputs}).encode()

    with remote(certificate, answer) as found:
        got = infer(found)
    [(route, body)] = asked
    assert route == "/v2/models/m/versions/3/infer"
    [sent] = json.loads(body)["inputs"]
    array = np.array(sent.pop("data"), dtype=np.float32).reshape(sent["shape"])
    assert array.tobytes() == INPUTS["x"].tobytes(), "no bit is lost on the way"
    assert sent == {"name": "x", "datatype": "FP32", "shape": [1, 3]}
    expected = np.array([[0.1, np.nan, -0.0]], dtype=np.float32)
    assert got["y"].tobytes() == expected.tobytes()
    assert got["n"].tolist() == [2**62 + 1, -1]
    assert got["s"].tolist() == ["wörd"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, r"doesn't let us in \(401\): told"),
        (403, r"doesn't let us in \(403\)"),
        (404, r"doesn't serve that \(404\): told"),
        (503, r"busy \(503\): told"),
        (500, "status 500: told"),
    ],
)
def test_refusals(certificate: Path, status: int, said: str) -> None:
    with remote(certificate, says(status, {"error": "told"})) as found:
        for ask in (infer, lambda each: each.check_model("m", 3)):
            with pytest.raises(AccuracyError, match=said):
                ask(found)


def test_a_redirection_is_not_followed(certificate: Path) -> None:
    with (
        remote(certificate, says(302, {})) as found,
        pytest.raises(AccuracyError, match="status 302: no reason given"),
    ):
        infer(found)


def test_too_large_for_the_appliance(certificate: Path) -> None:
    with (
        remote(certificate, says(413, {"error": "needs 9 bytes"})) as found,
        pytest.raises(TooLargeError, match="needs 9 bytes"),
    ):
        infer(found)


def test_too_large_isnt_sent(certificate: Path) -> None:
    def never(_route: str, _body: bytes) -> Answer:
        raise AssertionError

    with (
        remote(certificate, never) as found,
        pytest.raises(TooLargeError, match=f"at most {MAX_JSON_BYTES}"),
    ):
        found.infer("m", 1, {"x": np.zeros(MAX_JSON_BYTES // 4, np.float32)})


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"outputs": 3},
        {"outputs": [{"name": "y"}]},
        {"outputs": [{"name": "y", "datatype": "FP99", "shape": [1], "data": [1]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]},
        {"outputs": [{"name": "y", "datatype": "INT8", "shape": [1], "data": [300]}]},
        {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": ["x"]}]},
    ],
)
def test_answers_that_are_none(certificate: Path, content: object) -> None:
    with remote(certificate, says(200, content)) as found, pytest.raises(AccuracyError):
        infer(found)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff"])
def test_answers_that_are_no_json(certificate: Path, body: bytes) -> None:
    with (
        remote(certificate, lambda *_: (200, body)) as found,
        pytest.raises(AccuracyError, match="no reason given"),
    ):
        infer(found)


@pytest.mark.parametrize("versions", [["2"], [], None, "33"])
def test_another_version(certificate: Path, versions: object) -> None:
    with (
        remote(certificate, says(200, {"versions": versions})) as found,
        pytest.raises(AccuracyError, match="the folder has version 3"),
    ):
        found.check_model("m", 3)


def test_the_right_version(certificate: Path) -> None:
    with remote(certificate, says(200, {"versions": ["2", "3"]})) as found:
        found.check_model("m", 3)


def test_nothing_is_sent_to_another_certificate(certificate: Path) -> None:
    asked: list[str] = []

    def answer(route: str, _body: bytes) -> Answer:
        asked.append(route)
        return 200, b"{}"

    certificate.write_bytes(rsa_identity().certificate_pem)
    with (
        remote(certificate, answer) as found,
        pytest.raises(AccuracyError, match="its certificate doesn't hold against"),
    ):
        infer(found)
    assert asked == []


def test_nobody_listens(certificate: Path) -> None:
    with remote(certificate, says(200, {})) as found:
        address = found.address
    with (
        closing(Remote(address, certificate)) as gone,
        pytest.raises(AccuracyError, match=r"can't be reached.*is the appliance running there"),
    ):
        infer(gone)


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\xff\xfe"):
        (tmp_path / "c.pem").write_bytes(content)
        with pytest.raises(AccuracyError, match=r"c\.pem: expected a certificate in PEM form"):
            Remote(Address("localhost", 1), tmp_path / "c.pem")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://localhost:8443", Address("localhost", 8443)),
        ("https://host.example/", Address("host.example", 443)),
        ("https://[::1]:9", Address("::1", 9)),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert Address.parse(url) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1",
        "localhost:8443",
        "https://",
        "https://h:70000",
        "https://h:x",
        "https://h/v2/models",
        "https://h?x=1",
        "https://user:word@h",
        "",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(AccuracyError, match="expected https://HOST:PORT"):
        Address.parse(url)


def test_what_json_cannot_carry() -> None:
    array = np.array([1, np.inf, -np.inf, np.nan, -0.0], dtype=np.float32)
    carried = as_json_carries(array)
    expected = np.array([1, np.nan, np.nan, np.nan, -0.0], dtype=np.float32)
    assert carried.tobytes() == expected.tobytes()
    whole = np.array([1, 2])
    assert as_json_carries(whole) is whole
