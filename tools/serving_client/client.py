"""What the appliance can be asked, as methods."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

from app.tensors import Array, TensorSpec
from tools.errors import ServingError
from tools.serving_client.answers import (
    Classification,
    InferAnswer,
    read_classification,
    read_infer,
    read_inputs,
    read_json,
    read_object,
)
from tools.serving_client.connection import Connection
from tools.serving_client.requests import Options, encode, length_headers
from tools.serving_client.trust import Trust

_NOT_READY: Final = (400, 404, 503)


class ServingClient:
    """Asks one appliance; for one thread at a time, as a context manager or with `close`.

    Args:
        url: as in https://HOST:PORT.
        trust: how the server proves itself, and the client to it.
        timeout_s: for connecting, and for every wait for bytes.

    Every method raises `ServingError` when the server can't be reached, isn't the trusted one, or
    refuses; its `status` tells which.
    """

    def __init__(self, url: str, trust: Trust, *, timeout_s: float = 60.0) -> None:
        self._connection = Connection(url, trust, timeout_s)

    def __enter__(self) -> ServingClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: str | None = None,
        options: Options | None = None,
    ) -> InferAnswer:
        """Runs a model.

        Args:
            model: its id.
            inputs: one array for each of its inputs.
            version: None for the one that is served.
            options: outputs, form, priority and timeout.
        """
        body, head_bytes = encode(inputs, options or Options())
        path = f"{_path(model, version)}/infer"
        return read_infer(self._connection.ask("POST", path, body, length_headers(head_bytes)))

    def classify(self, model: str, picture: bytes, *, top_k: int = 5) -> Classification:
        """Says what a picture shows.

        Args:
            model: its id.
            picture: a PNG or JPEG file.
            top_k: how many labels.
        """
        path = f"/v1/models/{quote(model, safe='')}/classify?top_k={top_k}"
        headers = {"Content-Type": "application/octet-stream"}
        return read_classification(self._connection.ask("POST", path, [picture], headers))

    def metadata(self, model: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Gives what the server, or a model, says of itself."""
        path = "/v2" if model is None else _path(model, version)
        return read_object(self._connection.ask("GET", path))

    def inputs(self, model: str) -> list[TensorSpec]:
        """Gives which inputs a model takes; sizes that vary are 1."""
        return read_inputs(self._connection.ask("GET", _path(model, None)))

    def statistics(self, model: str | None = None) -> list[dict[str, Any]]:
        """Gives what a model, or every model, has done so far."""
        path = "/v2/models" if model is None else _path(model, None)
        return list(read_json(self._connection.ask("GET", f"{path}/stats"))["model_stats"])

    def is_ready(self, model: str | None = None, version: str | None = None) -> bool:
        """Says whether the server, or a model, answers requests.

        Raises:
            ServingError: that can't be known: no connection, or no right to ask.
        """
        path = "/v2/health/ready" if model is None else f"{_path(model, version)}/ready"
        try:
            self._connection.ask("GET", path)
        except ServingError as error:
            if error.status in _NOT_READY:
                return False
            raise
        return True

    def models(self) -> list[dict[str, str]]:
        """Gives name, version, state and reason of every model version."""
        return list(read_json(self._connection.ask("POST", "/v2/repository/index")))

    def load(self, model: str) -> None:
        """Loads a model, or switches to its new version; returns when it answers."""
        self._change(model, "load")

    def unload(self, model: str) -> None:
        """Unloads a model once its running requests are answered."""
        self._change(model, "unload")

    def _change(self, model: str, what: str) -> None:
        path = f"/v2/repository/models/{quote(model, safe='')}/{what}"
        # Without a token the appliance asks for it: a page of another site can't send it.
        self._connection.ask("POST", path, headers={"Content-Type": "application/json"})


def _path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"
