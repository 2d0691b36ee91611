"""One keep-alive connection over verified TLS."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from tools.errors import ServingError
from tools.serving_client.trust import Trust, written

Body = Sequence[bytes | memoryview]
"""A request's body in pieces; they are sent without being joined."""


_LOOK_S: Final = 5.0
"""How long an error may wait for a look at the certificate that it is about."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered with status 200.

    Attributes:
        headers: names in small letters.
        body: whole.
    """

    headers: Mapping[str, str]
    body: bytes


def parse_url(url: str) -> tuple[str, int]:
    """Reads host and port of https://HOST:PORT.

    Raises:
        ServingError: it is anything else.
    """
    expected = f"expected https://HOST:PORT, got {url!r}"
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError as error:
        raise ServingError(f"{expected}: {error}") from error
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise ServingError(expected)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ServingError(f"{expected}; the route is added by itself")
    return parts.hostname, port


class Connection:
    """Sends one request after another; for one thread at a time.

    Args:
        url: as in https://HOST:PORT.
        trust: how the server proves itself.
        timeout_s: for connecting, and for every wait for bytes.

    Raises:
        ServingError: the URL or the trust can't be used.
    """

    def __init__(self, url: str, trust: Trust, timeout_s: float) -> None:
        host, port = parse_url(url)
        self._url = url
        self._trust = trust
        self._http = http.client.HTTPSConnection(
            host, port, context=trust.context(), timeout=timeout_s
        )

    def close(self) -> None:
        """Closes the connection; the next request would open another."""
        self._http.close()

    def ask(
        self, method: str, path: str, body: Body = (), headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Sends a request and reads its answer.

        Raises:
            ServingError: the server can't be reached, isn't the trusted one, or refused.
        """
        reused = self._http.sock is not None
        try:
            return self._ask(method, path, body, headers or {})
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self.close()
            if not reused:
                raise self._failure(error) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._failure(error) from error
        # An idle connection was closed meanwhile; no route changes anything when asked twice.
        try:
            return self._ask(method, path, body, headers or {})
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._failure(error) from error

    def _ask(self, method: str, path: str, body: Body, headers: Mapping[str, str]) -> Reply:
        if self._http.sock is None:
            self._connect()
        is_post = method == "POST"
        sent = {"Content-Length": str(sum(map(len, body)))} if is_post else {}
        if self._trust.token is not None:
            sent["Authorization"] = f"Bearer {self._trust.token}"
        pieces = iter(body) if is_post else None
        self._http.request(method, path, body=pieces, headers={**sent, **headers})
        response = self._http.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise ServingError(_reason(content, response.status), status=response.status)
        return Reply({name.lower(): value for name, value in response.getheaders()}, content)

    def _connect(self) -> None:
        """Shakes hands and checks the certificate before a byte of a request is sent."""
        self._http.connect()
        secured = self._http.sock
        if not isinstance(secured, ssl.SSLSocket):
            raise ServingError(f"{self._url}: the connection isn't encrypted")
        try:
            self._trust.check(secured.getpeercert(binary_form=True))
        except ServingError:
            self.close()
            raise
        secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _failure(self, error: Exception) -> ServingError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ServingError(
                f"{self._url}: the server's certificate isn't trusted ({error.verify_message}); "
                f"{self._presented()}an appliance prints its own when it starts: give that file "
                "with --cacert and a host name that stands in it, or its fingerprint with "
                "tools/client.py --fingerprint"
            )
        if isinstance(error, TimeoutError):
            return ServingError(f"{self._url}: no answer in {self._http.timeout:g} s")
        reason = str(error) or type(error).__name__
        return ServingError(
            f"{self._url} can't be reached: {reason}; is the appliance running there?"
        )

    def _presented(self) -> str:
        """Says which certificate came, for a person to compare. Nothing is sent or trusted."""
        address = (self._http.host, self._http.port)
        try:
            pem = ssl.get_server_certificate(address, timeout=_LOOK_S)
        except (OSError, ValueError):
            return ""
        return f"its fingerprint is {written(sha256(ssl.PEM_cert_to_DER_cert(pem)).digest())}; "


def _reason(content: bytes, status: int) -> str:
    try:
        said = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return f"the server answered with status {status}"
    hint = "; give an API token with --token-file" if status == http.client.UNAUTHORIZED else ""
    return f"the server refused ({status}): {said}{hint}"
