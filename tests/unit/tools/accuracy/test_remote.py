"""The appliance is asked over verified TLS only, and what it says is understood or named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest

from app.access.admission import Gate, Head, Pass, Refusal
from app.card import ModelCard
from app.limits import MAX_BODY_BYTES
from app.tensors import BFLOAT16
from tests import fakes, served
from tests.unit.app.server.clients import OPEN, identity, rsa_identity, serving
from tools.accuracy.remote import Remote, TooLargeError
from tools.errors import AccuracyError
from tools.serving_client import Trust

INPUTS = {"x": np.array([[1.5, -0.0, 1e-40]], dtype=np.float32)}
TRUST = Trust(ca_text=identity().certificate_pem.decode(), token="cloister_a_b")


@contextmanager
def remote(
    application: Callable[..., Any], trust: Trust = TRUST, gate: Gate = OPEN
) -> Iterator[Remote]:
    with (
        serving(application, gate=gate) as server,
        closing(Remote(f"https://localhost:{server.address[1]}", trust)) as found,
    ):
        yield found


def says(status: int, content: object, heads: list[dict[str, Any]] | None = None) -> Any:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if heads is not None:
            heads.append(environ)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        start(f"{status} x", [("Content-Length", str(len(body)))])
        return [body]

    return application


def test_no_bit_is_lost_on_the_way() -> None:
    """Neither of numbers that JSON doesn't have, nor of those that it writes otherwise."""
    x = np.array([[np.nan, -0.0, np.inf, 1e-40]], dtype=np.float32)
    half = np.array([0x7FC1, 0x8000], np.uint16).view(BFLOAT16)
    specs = (fakes.spec("x", 1, 4), fakes.spec("h", 2, dtype="bfloat16"))
    card = ModelCard("Echo", "tensors", (), "logits", None, specs, specs)
    model = served.Model("m", 3, card, dict)
    with remote(served.application(served.Models({"m": model}))) as found:
        found.check_model("m", 3)
        got = found.infer("m", 3, {"x": x, "h": half})
    assert (got["x"].tobytes(), got["h"].tobytes()) == (x.tobytes(), half.tobytes())
    assert got["h"].dtype == BFLOAT16


def test_the_token_goes_with_every_request() -> None:
    seen: list[bytes | None] = []

    class Door(Gate):
        def admit(self, head: Head, peer_fingerprint: str | None, now: float) -> Pass | Refusal:
            seen.append(head.authorization)
            return Pass(served.TESTER)

    with remote(says(200, {"versions": ["3"]}), gate=Door(None)) as found:
        found.check_model("m", 3)
        with pytest.raises(AccuracyError):
            found.infer("m", 3, INPUTS)
    assert seen == [b"Bearer cloister_a_b"] * 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, r"refused \(401\): told; give an API token with --token-file"),
        (403, r"refused \(403\): told"),
        (404, r"refused \(404\): told"),
        (429, r"refused \(429\): told; .*try again later"),
        (503, r"refused \(503\): told; it is busy"),
        (500, r"refused \(500\): told"),
    ],
)
def test_refusals(status: int, said: str) -> None:
    with remote(says(status, {"error": "told"})) as found:
        for ask in (lambda: found.infer("m", 3, INPUTS), lambda: found.check_model("m", 3)):
            with pytest.raises(AccuracyError, match=said) as caught:
                ask()
            assert not isinstance(caught.value, TooLargeError)


def test_a_redirection_is_not_followed() -> None:
    heads: list[dict[str, Any]] = []
    with (
        remote(says(302, {}, heads)) as found,
        pytest.raises(AccuracyError, match="status 302"),
    ):
        found.infer("m", 3, INPUTS)
    assert len(heads) == 1


def test_too_large_for_the_appliance() -> None:
    with (
        remote(says(413, {"error": "needs 9 bytes"})) as found,
        pytest.raises(TooLargeError, match="needs 9 bytes"),
    ):
        found.infer("m", 3, INPUTS)


def test_too_large_isnt_sent() -> None:
    heads: list[dict[str, Any]] = []
    with (
        remote(says(200, {}, heads)) as found,
        pytest.raises(TooLargeError, match=f"at most {MAX_BODY_BYTES}"),
    ):
        found.infer("m", 1, {"x": np.zeros(MAX_BODY_BYTES + 1, np.uint8)})
    assert heads == []


@pytest.mark.parametrize("content", [[], {}, {"outputs": 3}, b"", b"<html>", b"\xff"])
def test_answers_that_are_none(content: object) -> None:
    with remote(says(200, content)) as found:
        for ask in (lambda: found.infer("m", 3, INPUTS), lambda: found.check_model("m", 3)):
            with pytest.raises(AccuracyError):
                ask()


@pytest.mark.parametrize("versions", [["2"], [], None, "33"])
def test_another_version(versions: object) -> None:
    with (
        remote(says(200, {"versions": versions})) as found,
        pytest.raises(AccuracyError, match="the folder has version 3"),
    ):
        found.check_model("m", 3)


def test_nothing_is_sent_to_another_certificate() -> None:
    heads: list[dict[str, Any]] = []
    other = Trust(ca_text=rsa_identity().certificate_pem.decode(), token="cloister_a_b")
    with (
        remote(says(200, {}, heads), other) as found,
        pytest.raises(AccuracyError, match="isn't trusted"),
    ):
        found.infer("m", 3, INPUTS)
    assert heads == []


def test_nobody_listens() -> None:
    with serving(says(200, {})) as server:
        url = f"https://localhost:{server.address[1]}"
    with (
        closing(Remote(url, TRUST)) as gone,
        pytest.raises(AccuracyError, match=r"can't be reached.*is the appliance running there"),
    ):
        gone.infer("m", 3, INPUTS)
