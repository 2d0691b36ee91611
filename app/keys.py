"""Where a model key comes from.

The appliance asks a `KeySource` for a key by model id and never stores one.
`FolderKeySource` reads files: in development a folder that the host can read
too, in production a folder that the enclave's start-up attestation has filled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from app.errors import KeyUnavailableError
from app.files import WrongFileError, read_file
from app.objects import KEY_BYTES

_MOST_BYTES: Final = 4096
"""Larger files aren't read to say how large they are."""


class KeySource(Protocol):
    """Gives model keys."""

    def model_key(self, model_id: str) -> bytes:
        """Gives the 32-byte key of a model.

        Raises:
            KeyUnavailableError: when there is none; the message holds no key material.
        """
        ...


class FolderKeySource:
    """Model keys as files `<model id>.key` of 32 raw bytes in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def model_key(self, model_id: str) -> bytes:
        """See `KeySource`."""
        return read_key_file(self._folder / f"{model_id}.key")


def read_key_file(path: Path) -> bytes:
    """Reads a key file of exactly 32 bytes.

    Raises:
        KeyUnavailableError: when it can't be read or has another size.
    """
    try:
        key = read_file(path, _MOST_BYTES)
    except WrongFileError as error:
        raise KeyUnavailableError(f"key file {path}: {error}") from error
    except OSError as error:
        raise KeyUnavailableError(
            f"key file {path}: I/O error {error.errno}: {error.strerror}"
        ) from error
    if len(key) != KEY_BYTES:
        raise KeyUnavailableError(
            f"key file {path}: expected {KEY_BYTES} bytes as 'tools/bundle.py keygen' writes them, "
            f"got {'more' if len(key) > KEY_BYTES else len(key)}"
        )
    return key
