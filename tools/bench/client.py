"""A client over verified TLS that keeps its connection and takes the time."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from app.server.protocol import DATATYPES
from app.tensors import Array, TensorSpec
from tools.errors import BenchmarkError

TIMEOUT_S: Final = 120.0
"""A watchdog for a server that hangs: far above any request of any model."""

DECIMALS: Final = 2
"""Inputs are rounded so that their JSON is short."""

_PHASE: Final = re.compile(r"([\w-]+);dur=([\d.]+)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server.

    Attributes:
        host, port: where it is.
        certificate: PEM text of whom to trust.
    """

    host: str
    port: int
    certificate: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request.

    Attributes:
        status: of HTTP.
        body: as it came.
        server: the `Server:` header, which names the runtime in brackets.
        latency_s: from the first byte sent to the last one read.
        phases: seconds by phase, as the server says in `Server-Timing:`.
    """

    status: int
    body: bytes
    server: str
    latency_s: float
    phases: Mapping[str, float]

    def outputs(self) -> dict[str, Array]:
        """Gives the tensors of an inference.

        Raises:
            BenchmarkError: when it is an error; holds what the server said.
        """
        if self.status != http.HTTPStatus.OK:
            text = self.body[:300].decode(errors="replace")
            raise BenchmarkError(f"the server answered {self.status}: {text}")
        tensors = json.loads(self.body)["outputs"]
        return {
            each["name"]: np.array(each["data"], dtype=np.float64).reshape(each["shape"])
            for each in tensors
        }

    @property
    def runtime(self) -> str:
        """What the server runs in, as it says itself."""
        return self.server.rpartition("(")[2].rstrip(")")


@dataclass(slots=True)
class Client:
    """One connection, which the block that it is used in closes. Not thread safe.

    Attributes:
        endpoint: whom it talks to.
    """

    endpoint: Endpoint
    _connection: http.client.HTTPSConnection | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, model: str, body: bytes) -> Answer:
        """Sends one inference request and reads its answer.

        Raises:
            OSError: when the connection breaks; the next request makes a new one.
        """
        connection = self._connect()
        started = time.perf_counter()
        try:
            connection.request("POST", f"/v2/models/{model}/infer", body, _HEADERS)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ConnectionError(f"no answer: {error}") from error
        latency_s = time.perf_counter() - started
        timing = response.getheader("Server-Timing", "")
        return Answer(
            status=response.status,
            body=content,
            server=response.getheader("Server", ""),
            latency_s=latency_s,
            phases={name: float(value) / 1e3 for name, value in _PHASE.findall(timing)},
        )

    def inputs(self, model: str) -> list[TensorSpec]:
        """Asks the server which inputs a model takes; sizes that vary become 1.

        Raises:
            BenchmarkError: when it doesn't serve the model.
            OSError: when the connection breaks.
        """
        connection = self._connect()
        connection.request("GET", f"/v2/models/{model}")
        response = connection.getresponse()
        content = response.read()
        if response.status != http.HTTPStatus.OK:
            text = content[:300].decode(errors="replace")
            raise BenchmarkError(f"the server answered {response.status}: {text}")
        types = {datatype: dtype for dtype, datatype in DATATYPES.items()}
        return [
            TensorSpec(each["name"], types[each["datatype"]], tuple(abs(d) for d in each["shape"]))
            for each in json.loads(content)["inputs"]
        ]

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            context = ssl.create_default_context(cadata=self.endpoint.certificate)
            self._connection = http.client.HTTPSConnection(
                self.endpoint.host, self.endpoint.port, timeout=TIMEOUT_S, context=context
            )
            self._connection.connect()
        return self._connection

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


_HEADERS: Final = {"Content-Type": "application/json"}


def request_body(inputs: Mapping[str, Array]) -> bytes:
    """Gives an Open Inference Protocol request as JSON."""
    tensors = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": list(array.shape),
            "data": _short(array),
        }
        for name, array in inputs.items()
    ]
    return json.dumps({"inputs": tensors}, separators=(",", ":")).encode()


def _short(array: Array) -> list[float]:
    flat = array.reshape(-1)
    if flat.dtype.kind == "f":
        flat = flat.astype(np.float64).round(DECIMALS)
    found: list[float] = flat.tolist()
    return found
