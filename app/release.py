"""What an owner says of a bundle beside its content: for which key it is, and for which time.

The formats of bundles differ here and nowhere else: `RELEASES` has a reader for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Final

from app.errors import BundleRefusedError
from app.fields import FieldError, Fields
from app.objects import BUNDLE_ID_BYTES, CHECK_BYTES, key_check

FORMAT_VERSION: Final = 2
"""The format that is written; `RELEASES` has those that are read."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What is part of URLs and of files' names: few characters, no separator."""

_TIME: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True)
class Release:
    """What the owner says of a bundle beside its content; format 1 has none of it.

    Attributes:
        key_id: names the model key without telling it.
        key_check: `app.objects.key_check` of the model key, salted with the bundle's id.
        released_at: when the owner wrote the bundle, UTC, in whole seconds.
        expires_at: from when on it isn't to be served any more; None for never.
    """

    key_id: str
    key_check: bytes
    released_at: datetime
    expires_at: datetime | None

    def to_json(self) -> dict[str, object]:
        """Gives the fields of a manifest."""
        expiry = {} if self.expires_at is None else {"expires_at": write_time(self.expires_at)}
        return {
            "key_id": self.key_id,
            "key_check": self.key_check.hex(),
            "released_at": write_time(self.released_at),
            **expiry,
        }

    def commits_to(self, model_key: bytes, bundle_id: bytes) -> bool:
        """Says whether it was written for this key, in constant time."""
        return compare_digest(self.key_check, key_check(model_key, bundle_id))

    def check_expiry(self, now: datetime) -> None:
        """Refuses a bundle whose time is over.

        Raises:
            BundleRefusedError: it has expired.
        """
        if self.expires_at is not None and now >= self.expires_at:
            raise BundleRefusedError(f"the bundle expired at {write_time(self.expires_at)}")


def read_bundle_id(text: str) -> bytes:
    """Reads a bundle's id as it is written everywhere: 64 hex digits in lower case.

    Raises:
        ValueError: it has another form.
    """
    return _from_hex(text, BUNDLE_ID_BYTES)


def write_time(moment: datetime) -> str:
    """Gives a moment as manifests have it: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def read_time(text: str) -> datetime:
    """Reads the one form in which `write_time` writes.

    Raises:
        ValueError: it has another form, or there is no such moment.
    """
    if not _TIME.fullmatch(text):
        raise ValueError("expected a time as 2027-01-31T00:00:00Z")
    return datetime.fromisoformat(f"{text[:-1]}+00:00")


def _read_release(fields: Fields) -> Release:
    release = Release(
        key_id=read_name(fields, "key_id"),
        key_check=read_bytes(fields, "key_check", CHECK_BYTES),
        released_at=_read_moment(fields, "released_at"),
        expires_at=_read_moment(fields, "expires_at") if fields.has("expires_at") else None,
    )
    if release.expires_at is not None and release.expires_at <= release.released_at:
        raise FieldError(f"{fields.where}.expires_at: isn't later than released_at")
    return release


def _no_release(_: Fields) -> None:
    """Format 1: the manifest says nothing of its key and its time."""


RELEASES: Final[Mapping[int, Callable[[Fields], Release | None]]] = {
    1: _no_release,
    2: _read_release,
}
"""Formats that are read, and what each has beside the fields that all have."""


def _read_moment(fields: Fields, name: str) -> datetime:
    text = fields.text(name, longest=32)
    try:
        return read_time(text)
    except ValueError as error:
        raise FieldError(
            f"{fields.where}.{name}: expected a time as 2027-01-31T00:00:00Z, got {text!r}"
        ) from error


def read_name(fields: Fields, name: str) -> str:
    """Takes a name of at most 64 lower-case letters, digits, '.', '_' and '-'."""
    text = fields.text(name)
    if not NAME.fullmatch(text):
        raise FieldError(
            f"{fields.where}.{name}: expected at most 64 of a-z, 0-9, '.', '_', '-', "
            f"starting with a letter or digit; got {text[:80]!r}"
        )
    return text


def read_bytes(fields: Fields, name: str, size: int) -> bytes:
    """Takes `size` bytes, written as hex digits in lower case."""
    text = fields.text(name, longest=2 * size)
    try:
        return _from_hex(text, size)
    except ValueError as error:
        raise FieldError(f"{fields.where}.{name}: {error}") from error


def _from_hex(text: str, size: int) -> bytes:
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise ValueError(f"expected {2 * size} hex digits in lower case")
    return bytes.fromhex(text)
