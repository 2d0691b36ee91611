"""The access policy: one JSON file, parsed once and strictly into frozen values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.access.tokens import SALT_BYTES, TOKEN_ID, TokenRecord
from app.errors import ConfigError
from app.fields import FieldError, Fields, parse_json
from app.limits import (
    MAX_CREDENTIALS_PER_TENANT,
    MAX_POLICY_BYTES,
    MAX_TENANTS,
)
from app.manifest import MODEL_ID

POLICY_FORMAT: Final = 1
RIGHTS: Final = ("infer", "metadata", "manage", "metrics")

MAX_NOTE_CHARACTERS: Final = 100
_MAX_MODELS: Final = 256
_MAX_REQUESTS_PER_S: Final = 1_000_000
_MAX_BYTES_PER_S: Final = 1 << 40
_MAX_CONCURRENT: Final = 1 << 16
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Quotas:
    """How much a tenant may ask for; None is no bound of its own.

    Attributes:
        requests_per_s: sustained; as many may come at once after a quiet second.
        bytes_per_s: of requests and of answers, heads included, sustained.
        concurrent: requests from their complete head to their answer.
    """

    requests_per_s: int | None = None
    bytes_per_s: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody with credentials, rights and quotas.

    Attributes:
        name: as the policy's owner calls it; lower case.
        models: what it may know of; None for every model.
        rights: among `RIGHTS`.
        quotas: all its credentials share them.
        tokens: its API tokens.
        certificates: SHA-256 of its client certificates in DER form, in hexadecimal.
    """

    name: str
    models: frozenset[str] | None
    rights: frozenset[str]
    quotas: Quotas = Quotas()
    tokens: tuple[TokenRecord, ...] = ()
    certificates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Everybody who may use the appliance.

    No two tenants share a name, a token id or a certificate.
    """

    tenants: tuple[Tenant, ...] = ()


@dataclass(slots=True)
class _Reading:
    """Goes on with the next tenant after a problem, so that more of them are reported at once."""

    tenants: list[Tenant] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_policy(path: Path) -> Policy:
    """Reads a policy file.

    Raises:
        ConfigError: it can't be read or isn't a policy; lists what is wrong.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), [error.strerror or str(error)]) from error
    return parse_policy(raw, str(path))


def parse_policy(raw: bytes, source: str = "policy") -> Policy:
    """Parses a policy.

    Args:
        raw: JSON.
        source: named in errors.

    Raises:
        ConfigError: for anything but a policy; lists what is wrong.
    """
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigError(source, [f"more than {MAX_POLICY_BYTES} bytes"])
    try:
        fields = Fields(parse_json(raw), "policy")
        fields.integer("format", least=POLICY_FORMAT, most=POLICY_FORMAT)
        entries = fields.array("tenants", most=MAX_TENANTS)
        fields.done()
    except FieldError as error:
        raise ConfigError(source, [str(error)]) from error
    reading = _read_tenants(entries)
    reading.problems += _shared(reading.tenants)
    if reading.problems:
        raise ConfigError(source, reading.problems)
    return Policy(tuple(reading.tenants))


def _read_tenants(entries: Sequence[object]) -> _Reading:
    reading = _Reading()
    for index, entry in enumerate(entries):
        try:
            fields = Fields(entry, f"policy.tenants[{index}]")
            reading.tenants.append(_read_tenant(fields))
            fields.done()
        except FieldError as error:
            reading.problems.append(str(error))
    return reading


def _read_tenant(fields: Fields) -> Tenant:
    most = MAX_CREDENTIALS_PER_TENANT
    return Tenant(
        name=_matching(fields.where, "name", fields.text("name"), _TENANT),
        models=_read_models(fields),
        rights=_read_rights(fields),
        quotas=_read_quotas(fields.inner("quotas")),
        tokens=fields.each("tokens", _read_token, most=most),
        certificates=tuple(
            _matching(fields.where, "certificates", each, _FINGERPRINT)
            for each in fields.texts("certificates", most=most)
        ),
    )


def _read_models(fields: Fields) -> frozenset[str] | None:
    if fields.take_null("models"):
        return None
    names = fields.texts("models", most=_MAX_MODELS)
    for name in names:
        _matching(fields.where, "models", name, MODEL_ID)
    return _without_repeats(fields.where, "models", names)


def _read_rights(fields: Fields) -> frozenset[str]:
    names = fields.texts("rights", most=len(RIGHTS))
    for name in names:
        if name not in RIGHTS:
            raise FieldError(
                f"{fields.where}.rights: expected some of {', '.join(RIGHTS)}; got {name[:40]!r}"
            )
    return _without_repeats(fields.where, "rights", names)


def _read_quotas(fields: Fields) -> Quotas:
    found = Quotas(
        requests_per_s=_read_quota(fields, "requests_per_s", _MAX_REQUESTS_PER_S),
        bytes_per_s=_read_quota(fields, "bytes_per_s", _MAX_BYTES_PER_S),
        concurrent=_read_quota(fields, "concurrent", _MAX_CONCURRENT),
    )
    fields.done()
    return found


def _read_quota(fields: Fields, name: str, most: int) -> int | None:
    """Takes a bound, which is null for none: leaving one out by mistake isn't the same."""
    return None if fields.take_null(name) else fields.integer(name, least=1, most=most)


def _read_token(fields: Fields) -> TokenRecord:
    return TokenRecord(
        token_id=_matching(fields.where, "id", fields.text("id"), TOKEN_ID),
        salt=_read_hex(fields, "salt", SALT_BYTES),
        digest=_read_hex(fields, "sha256", _DIGEST_BYTES),
        note=fields.text("note", longest=MAX_NOTE_CHARACTERS),
    )


def _read_hex(fields: Fields, name: str, size: int) -> bytes:
    text = fields.text(name)
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
        raise FieldError(f"{fields.where}.{name}: expected {size} bytes in hexadecimal, a-f small")
    return bytes.fromhex(text)


def _matching(where: str, name: str, text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise FieldError(f"{where}.{name}: expected {pattern.pattern}, got {text[:80]!r}")
    return text


def _without_repeats(where: str, name: str, items: Sequence[str]) -> frozenset[str]:
    if repeated := _repeated(items):
        raise FieldError(f"{where}.{name}: {repeated[0]!r} is given twice")
    return frozenset(items)


def _repeated(items: Iterable[str]) -> list[str]:
    return [item for item, count in Counter(items).items() if count > 1]


def _shared(tenants: Sequence[Tenant]) -> list[str]:
    """Finds what must be one tenant's alone, or there once."""
    kinds = {
        "tenant": [tenant.name for tenant in tenants],
        "token id": [token.token_id for tenant in tenants for token in tenant.tokens],
        "certificate": [each for tenant in tenants for each in tenant.certificates],
    }
    return [
        f"policy: the {kind} {item!r} is given twice"
        for kind, items in kinds.items()
        for item in _repeated(items)
    ]
