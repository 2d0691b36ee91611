"""Asks a running appliance over verified TLS; tensors travel as bytes, so that no bit is lost."""

from __future__ import annotations

import http
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from app.limits import MAX_BODY_BYTES
from app.tensors import Array
from tools.errors import AccuracyError, ServingError
from tools.serving_client import ServingClient, Trust

TIMEOUT_S: Final = 300.0
"""For one answer: the largest models take seconds, in an enclave with a small EPC minutes."""


_HINTS: Final[Mapping[int, str]] = {
    403: "; the token has to be one that may ask this model",
    429: "; the token's quota is used up, try again later",
    503: "; it is busy, try again later",
}


class TooLargeError(AccuracyError):
    """The appliance doesn't take a request of this size."""


class Remote:
    """A client of one appliance, over one connection that is kept.

    Args:
        url: where it listens, as https://HOST:PORT.
        trust: how it proves itself, and the token to ask with.

    Raises:
        ServingError: one of them can't be used.
    """

    def __init__(self, url: str, trust: Trust) -> None:
        self._url = url
        self._client = ServingClient(url, trust, timeout_s=TIMEOUT_S)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def check_model(self, model_id: str, version: int) -> None:
        """Makes sure that the appliance serves a model in a version.

        Raises:
            AccuracyError: when it doesn't, or can't be asked.
        """
        with self._refusals():
            versions = self._client.metadata(model_id).get("versions")
        if not isinstance(versions, list) or str(version) not in versions:
            raise AccuracyError(
                f"{self._url} serves model {model_id!r} in the versions {versions}, "
                f"the folder has version {version}; write its bundle and start the appliance anew"
            )

    def infer(
        self, model_id: str, version: int, inputs: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        """Sends one request.

        Returns:
            The outputs by name.

        Raises:
            TooLargeError: when the appliance doesn't take so large a request.
            AccuracyError: for everything else that isn't an answer.
        """
        size_bytes = sum(array.nbytes for array in inputs.values())
        if size_bytes > MAX_BODY_BYTES:
            raise TooLargeError(f"{size_bytes} bytes, at most {MAX_BODY_BYTES} are taken")
        with self._refusals():
            return self._client.infer(model_id, inputs, version=str(version)).outputs

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ServingError as error:
            raise _refusal(self._url, error) from error


def _refusal(url: str, error: ServingError) -> AccuracyError:
    if error.status is None:
        return AccuracyError(str(error))
    if error.status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLargeError(str(error))
    hint = _HINTS.get(error.status, "")
    return AccuracyError(f"{url}: {error}{hint}")
