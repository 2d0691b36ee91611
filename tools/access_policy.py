"""Changes access policies: what `app.access.policy` reads is written here.

Tokens are made here too. The appliance only checks them.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from app.access.policy import POLICY_FORMAT, Policy, Quotas, Tenant, parse_policy, read_policy
from app.access.tokens import SALT_BYTES, SECRET_BYTES, TokenRecord, token_digest, token_text
from app.errors import ConfigError
from tools.errors import AccessPolicyError
from tools.files import write_file

_TOKEN_ID_BYTES = 8
_POLICY_MODE = 0o644
"""Anybody may read it: tokens can't be found from their salted hashes."""


def make_token(note: str) -> tuple[str, TokenRecord]:
    """Makes a fresh random token; gives its text, which isn't kept anywhere, and its record."""
    token_id = secrets.token_bytes(_TOKEN_ID_BYTES).hex()
    secret = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode().rstrip("=")
    token = token_text(token_id, secret)
    salt = secrets.token_bytes(SALT_BYTES)
    return token, TokenRecord(token_id, salt, token_digest(salt, token), note)


def certificate_fingerprint(path: Path) -> str:
    """Gives the SHA-256 of a certificate file, PEM or DER, in small hexadecimal digits.

    Raises:
        AccessPolicyError: the file can't be read or holds no certificate.
    """
    try:
        raw = path.read_bytes()
        is_text = raw.lstrip().startswith(b"-----BEGIN")
        load = x509.load_pem_x509_certificate if is_text else x509.load_der_x509_certificate
        return load(raw).fingerprint(hashes.SHA256()).hex()
    except OSError as error:
        raise AccessPolicyError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AccessPolicyError(f"{path}: holds no certificate in PEM or DER form") from error


def edit_policy(path: Path, change: Callable[[Policy], Policy]) -> Policy:
    """Reads a policy file, or starts a new one, changes it and writes it as a whole.

    Nothing is written unless the appliance would read the result.

    Raises:
        AccessPolicyError: what was asked for can't be done.
        ConfigError: the file isn't a policy.
    """
    changed = change(read_policy(path) if path.exists() else Policy())
    raw = render_policy(changed)
    try:
        parse_policy(raw, str(path))
    except ConfigError as error:
        raise AccessPolicyError(f"nothing was written: {error}") from error
    write_file(path, raw, _POLICY_MODE)
    return changed


def add_tenant(policy: Policy, tenant: Tenant) -> Policy:
    """Adds a tenant."""
    return Policy((*policy.tenants, tenant))


def remove_tenant(policy: Policy, name: str) -> Policy:
    """Removes a tenant with everything it has.

    Raises:
        AccessPolicyError: there is none.
    """
    _find(policy, name)
    return Policy(tuple(tenant for tenant in policy.tenants if tenant.name != name))


def add_token(policy: Policy, name: str, record: TokenRecord) -> Policy:
    """Lets a tenant use a token.

    Raises:
        AccessPolicyError: there is no such tenant.
    """
    tenant = _find(policy, name)
    return _put(policy, replace(tenant, tokens=(*tenant.tokens, record)))


def add_certificate(policy: Policy, name: str, fingerprint: str) -> Policy:
    """Lets a tenant use a client certificate.

    Raises:
        AccessPolicyError: there is no such tenant.
    """
    tenant = _find(policy, name)
    return _put(policy, replace(tenant, certificates=(*tenant.certificates, fingerprint)))


def revoke(policy: Policy, credential: str) -> Policy:
    """Removes a token by its id, or a certificate by its fingerprint.

    Raises:
        AccessPolicyError: no tenant has it.
    """
    wanted = credential.lower()
    for tenant in policy.tenants:
        tokens = tuple(token for token in tenant.tokens if token.token_id != wanted)
        certificates = tuple(each for each in tenant.certificates if each != wanted)
        changed = replace(tenant, tokens=tokens, certificates=certificates)
        if changed != tenant:
            return _put(policy, changed)
    # A whole token may have been pasted here; it mustn't end up in a log.
    raise AccessPolicyError(
        "no tenant has this credential; expected the 16 digits of a token's id or the 64 of a "
        "certificate's fingerprint, as 'tools/access.py list' shows them"
    )


def render_policy(policy: Policy) -> bytes:
    """Gives the text that `app.access.policy.parse_policy` reads."""
    content = {
        "format": POLICY_FORMAT,
        "tenants": [_render_tenant(tenant) for tenant in policy.tenants],
    }
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _render_tenant(tenant: Tenant) -> dict[str, object]:
    return {
        "name": tenant.name,
        "models": None if tenant.models is None else sorted(tenant.models),
        "rights": sorted(tenant.rights),
        "quotas": _render_quotas(tenant.quotas),
        "tokens": [
            {
                "id": token.token_id,
                "salt": token.salt.hex(),
                "sha256": token.digest.hex(),
                "note": token.note,
            }
            for token in tenant.tokens
        ],
        "certificates": list(tenant.certificates),
    }


def _render_quotas(quotas: Quotas) -> dict[str, int | None]:
    return {
        "requests_per_s": quotas.requests_per_s,
        "bytes_per_s": quotas.bytes_per_s,
        "concurrent": quotas.concurrent,
    }


def _find(policy: Policy, name: str) -> Tenant:
    for tenant in policy.tenants:
        if tenant.name == name:
            return tenant
    known = ", ".join(tenant.name for tenant in policy.tenants) or "none"
    raise AccessPolicyError(f"there is no tenant {name!r}; there are: {known}")


def _put(policy: Policy, changed: Tenant) -> Policy:
    return Policy(tuple(changed if each.name == changed.name else each for each in policy.tenants))
