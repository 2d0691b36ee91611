"""The TLS libraries by the names that the configuration has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.server.tls.channel import MakeEndpoint
from app.server.tls.mbedtls import MbedtlsEndpoint
from app.server.tls.openssl import OpensslEndpoint

LIBRARIES: Final[Mapping[str, MakeEndpoint]] = {
    "mbedtls": MbedtlsEndpoint,
    "openssl": OpensslEndpoint,
}
"""One entry for each of `app.config.TLS_LIBRARIES`."""
