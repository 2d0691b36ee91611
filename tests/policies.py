"""Access policies with tokens whose texts are known, and the heads of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.access.policy import Policy, Quotas, Tenant
from tools.access_policy import make_token

NO_QUOTAS = Quotas()
FINGERPRINT = "ab" * 32

POLICY: dict[str, Any] = {
    "format": 1,
    "tenants": [
        {
            "name": "clinic",
            "models": ["digits", "sums"],
            "rights": ["infer", "metadata"],
            "quotas": {"requests_per_s": 50, "bytes_per_s": None, "concurrent": 8},
            "tokens": [
                {"id": "0" * 16, "salt": "00" * 16, "sha256": "00" * 32, "note": "ward 3"},
                {"id": "1" * 16, "salt": "11" * 16, "sha256": "11" * 32, "note": ""},
            ],
            "certificates": [FINGERPRINT],
        },
        {
            "name": "operator",
            "models": None,
            "rights": ["manage", "metrics"],
            "quotas": {"requests_per_s": None, "bytes_per_s": None, "concurrent": None},
            "tokens": [],
            "certificates": [],
        },
    ],
}
"""A right one, to be spoilt."""


def tenant(
    name: str = "clinic",
    *,
    models: frozenset[str] | None = None,
    rights: frozenset[str] = frozenset({"infer", "metadata"}),
    quotas: Quotas = NO_QUOTAS,
    certificates: tuple[str, ...] = (),
) -> tuple[Tenant, str]:
    """Gives a tenant with one token, and the token."""
    token, record = make_token("")
    return Tenant(name, models, rights, quotas, (record,), certificates), token


def policy(*tenants: Tenant) -> Policy:
    return Policy(tenants)


def bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Head:
    """See `app.access.admission.Head`."""

    target: bytes = b"/v2/models/digits/infer"
    method: bytes = b"POST"
    authorization: bytes | None = None
    consumed_bytes: int = 100
    body_bytes: int = 0
    host: bytes | None = b"localhost"
    origin: bytes | None = None
    fetch_site: bytes | None = None
    content_type: bytes | None = b"application/json"

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]


def head(token: str | None, target: str = "/v2/models/digits/infer", method: str = "POST") -> Head:
    authorization = None if token is None else f"Bearer {token}".encode()
    return Head(target.encode(), method.encode(), authorization)
