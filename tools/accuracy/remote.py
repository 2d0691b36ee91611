"""Asks a running appliance over TLS, with the Open Inference Protocol's JSON.

The server's certificate is always verified against the given one, and so is its name.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np

from app.fields import FieldError, parse_json
from app.limits import MAX_BODY_BYTES, MAX_JSON_BYTES
from app.server.protocol import DATATYPES
from app.tensors import Array
from tools.errors import AccuracyError

TIMEOUT_S: Final = 300.0
"""For one answer: the largest models take seconds, in an enclave with a small EPC minutes."""

MAX_ANSWER_BYTES: Final = 8 * MAX_BODY_BYTES
"""Largest answer that is read: one number of JSON takes up to 20 bytes, of a tensor 4."""

_DTYPES: Final = {protocol: dtype for dtype, protocol in DATATYPES.items()}


class TooLargeError(AccuracyError):
    """The appliance doesn't take a request of this size."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an appliance listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads https://HOST:PORT.

        Raises:
            AccuracyError: for anything else.
        """
        expected = f"expected https://HOST:PORT, got {url!r}"
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as error:
            raise AccuracyError(f"{expected}: {error}") from error
        if parts.scheme != "https" or not parts.hostname or parts.username is not None:
            raise AccuracyError(expected)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise AccuracyError(f"{expected}; the route is added by itself")
        return cls(parts.hostname, port)

    def __str__(self) -> str:
        """Gives the URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


class Remote:
    """A client of one appliance, over one connection that is kept.

    Args:
        address: where it listens.
        certificate: PEM file with the appliance's own certificate, or with that of its authority.

    Raises:
        AccuracyError: when the file holds no certificate.
        OSError: when it can't be read.
    """

    def __init__(self, address: Address, certificate: Path) -> None:
        self.address = address
        self._certificate = certificate
        try:
            # Only this certificate: the default context falls back to the system's authorities.
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trust.load_verify_locations(cadata=certificate.read_text(encoding="ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise AccuracyError(f"{certificate}: expected a certificate in PEM form") from error
        self._connection = http.client.HTTPSConnection(
            address.host, address.port, timeout=TIMEOUT_S, context=trust
        )

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def check_model(self, model_id: str, version: int) -> None:
        """Makes sure that the appliance serves a model in a version.

        Raises:
            AccuracyError: when it doesn't, or can't be asked.
        """
        self.close()  # by now the appliance may have closed a connection that was idle
        fields = self._ask("GET", f"/v2/models/{quote(model_id, safe='')}", None)
        versions = fields.get("versions")
        if not isinstance(versions, list) or str(version) not in versions:
            raise AccuracyError(
                f"{self.address} serves model {model_id!r} in the versions {versions}, "
                f"the folder has version {version}; write its bundle and start the appliance anew"
            )

    def infer(self, model_id: str, version: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Sends one request.

        Returns:
            The outputs by name. What JSON can't carry, NaN and infinities, is NaN.

        Raises:
            TooLargeError: when the appliance doesn't take so large a request.
            AccuracyError: for everything else that isn't an answer.
        """
        body = json.dumps({"inputs": [_encode(name, inputs[name]) for name in inputs]}).encode()
        if len(body) > MAX_JSON_BYTES:
            raise TooLargeError(f"{len(body)} bytes as JSON, at most {MAX_JSON_BYTES} are taken")
        route = f"/v2/models/{quote(model_id, safe='')}/versions/{version}/infer"
        answer = self._ask("POST", route, body)
        try:
            outputs = answer["outputs"]
            return {str(each["name"]): _decode(each) for each in outputs}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise AccuracyError(
                f"{self.address}: the answer isn't the protocol's: {error}"
            ) from error

    def _ask(self, method: str, route: str, body: bytes | None) -> dict[str, Any]:
        status, raw = self._send(method, route, body)
        try:
            answer = parse_json(raw)
        except FieldError:
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        said = answer.get("error") if isinstance(answer, dict) else None
        raise _refusal(status, f"{self.address}{route}", str(said or "no reason given"))

    def _send(self, method: str, route: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            self._connection.request(method, route, body, headers)
            response = self._connection.getresponse()
            raw = response.read(MAX_ANSWER_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise AccuracyError(
                f"{self.address}: its certificate doesn't hold against {self._certificate}: "
                f"{error.verify_message}; give the one that this appliance printed when it "
                "started, and a host name that stands in it"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = str(error) or type(error).__name__
            raise AccuracyError(
                f"{self.address} can't be reached: {reason}; is the appliance running there?"
            ) from error
        if len(raw) > MAX_ANSWER_BYTES:
            self.close()
            raise AccuracyError(f"{self.address}: an answer above {MAX_ANSWER_BYTES} bytes")
        return response.status, raw


def _refusal(status: int, where: str, said: str) -> AccuracyError:
    if status in (401, 403):
        return AccuracyError(f"{where}: the appliance doesn't let us in ({status}): {said}")
    if status == 404:
        return AccuracyError(f"{where}: the appliance doesn't serve that (404): {said}")
    if status == 413:
        return TooLargeError(said)
    if status == 503:
        return AccuracyError(f"{where}: the appliance is busy (503): {said}; try again later")
    return AccuracyError(f"{where}: status {status}: {said}")


def _encode(name: str, array: Array) -> dict[str, object]:
    datatype = DATATYPES.get(array.dtype.name)
    if datatype is None:
        raise AccuracyError(f"input {name!r} is of {array.dtype}, which JSON can't carry")
    # A Python float holds every FP32 and FP16 number, and JSON's text every float.
    data = array.reshape(-1).tolist()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def _decode(tensor: Mapping[str, Any]) -> Array:
    dtype = _DTYPES[tensor["datatype"]]
    if dtype == "string":
        text: Array = np.array(tensor["data"], dtype=object)
        return text.reshape(tensor["shape"])
    data = [np.nan if item is None else item for item in tensor["data"]]
    return np.array(data, dtype=dtype).reshape(tensor["shape"])


def as_json_carries(array: Array) -> Array:
    """Gives an output as it arrives through JSON: NaN and infinities become one and the same."""
    if array.dtype.kind != "f":
        return array
    carried: Array = np.where(np.isfinite(array), array, array.dtype.type(np.nan))
    return carried
