"""A client that takes the time of each request; tensors travel as bytes, not as JSON."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from app.tensors import Array, TensorSpec
from tools.bench.pictures import noisy
from tools.serving_client import Trust
from tools.serving_client.answers import read_infer, read_inputs
from tools.serving_client.connection import Body, Connection, Reply
from tools.serving_client.requests import Options, encode, length_headers

TIMEOUT_S: Final = 120.0
"""A watchdog for a server that hangs: far above any request of any model."""

_PHASE: Final = re.compile(r"([\w-]+);dur=([\d.]+)")
_MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server.

    Attributes:
        url: where it is, as https://HOST:PORT.
        trust: how it proves itself, and the token to ask with.
    """

    url: str
    trust: Trust


@dataclass(frozen=True, slots=True)
class Request:
    """An inference request, encoded once and sent many times.

    Attributes:
        body: in pieces.
        headers: that say where its JSON ends, or of which type it is.
        route: where it goes, with {model} in the place of the model's id.
    """

    body: Body
    headers: Mapping[str, str]
    route: str = "/v2/models/{model}/infer"

    def path(self, model: str) -> str:
        """Gives where it goes for a model."""
        return self.route.format(model=model)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request.

    Attributes:
        reply: as it came.
        latency_s: from the first byte sent to the last one read.
    """

    reply: Reply
    latency_s: float

    def outputs(self) -> Mapping[str, Array]:
        """Gives the tensors.

        Raises:
            ServingError: when it has none.
        """
        return read_infer(self.reply).outputs

    @property
    def runtime(self) -> str:
        """What the server runs in, as it says itself in brackets in `Server:`."""
        return self.reply.headers.get("server", "").rpartition("(")[2].rstrip(")")

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds by phase, as the server says in `Server-Timing:`."""
        timing = self.reply.headers.get("server-timing", "")
        return {name: float(value) / _MS_PER_S for name, value in _PHASE.findall(timing)}


class Client:
    """One connection, which the block that it is used in closes. Not thread safe.

    Args:
        endpoint: whom it talks to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._connection = Connection(endpoint.url, endpoint.trust, TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def infer(self, model: str, request: Request) -> Answer:
        """Sends one request and reads its answer.

        Raises:
            ServingError: when there is none, or it is a refusal; holds what the server said.
        """
        started = time.perf_counter()
        reply = self._connection.ask("POST", request.path(model), request.body, request.headers)
        return Answer(reply, time.perf_counter() - started)

    def inputs(self, model: str) -> list[TensorSpec]:
        """Asks the server which inputs a model takes; sizes that vary become 1.

        Raises:
            ServingError: when it doesn't serve the model, or doesn't say.
        """
        return read_inputs(self._connection.ask("GET", f"/v2/models/{model}"))


def picture() -> Request:
    """Makes a request to classify a picture of 750 KB, which comes in several pieces."""
    route = "/v1/models/{model}/classify"
    return Request([noisy()], {"Content-Type": "image/png"}, route)


def encoded(inputs: Mapping[str, Array]) -> Request:
    """Encodes an inference request."""
    body, head_bytes = encode(inputs, Options())
    return Request(body, length_headers(head_bytes))
