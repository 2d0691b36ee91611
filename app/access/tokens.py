"""API tokens: their text, and what is kept of them.

A token is `cloister_<id>_<secret>`: the id is 16 hexadecimal digits and isn't
secret, the secret is 32 random bytes in base64url. What is kept is the id, a
random salt and a SHA-256. A fast hash is right here: nobody can try 2^256
secrets, so there is nothing for a slow one to slow down. This side only checks
tokens; it never makes one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TOKEN_ID: Final = re.compile(r"[0-9a-f]{16}")
SALT_BYTES: Final = 16
SECRET_BYTES: Final = 32

_TOKEN: Final = re.compile(r"cloister_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_PURPOSE: Final = b"cloister api token 1\0"
"""Keeps this hash apart from every other use of SHA-256."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token; the token can't be found from it.

    Attributes:
        token_id: 16 hexadecimal digits.
        salt: random, of this token alone.
        digest: `token_digest` of the token.
        note: what it is for, so that people know which one to revoke.
    """

    token_id: str
    salt: bytes
    digest: bytes
    note: str


_NOBODY: Final = TokenRecord("", bytes(SALT_BYTES), bytes(hashlib.sha256().digest_size), "")
"""Compared with tokens whose id is unknown, so that these take as long as wrong secrets."""


def token_text(token_id: str, secret: str) -> str:
    """Joins an id and a secret in base64url without padding."""
    return f"cloister_{token_id}_{secret}"


def token_id(token: str) -> str | None:
    """Gives the id of a token; None for what isn't the text of one."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def token_digest(salt: bytes, token: str) -> bytes:
    """Gives what is kept of a token: SHA-256 over a constant, the salt and the text."""
    return hashlib.sha256(_PURPOSE + salt + token.encode("ascii")).digest()


def find_token(token: str, records: Mapping[str, TokenRecord]) -> TokenRecord | None:
    """Finds the record that a token was made with; None when it is none of them.

    The comparison takes the same time wherever the first wrong byte is, and an unknown id takes
    as long as a wrong secret.

    Args:
        token: as a client sent it.
        records: by token id.
    """
    found_id = token_id(token)
    if found_id is None:
        return None
    record = records.get(found_id, _NOBODY)
    matches = hmac.compare_digest(token_digest(record.salt, token), record.digest)
    return record if matches and record is not _NOBODY else None
