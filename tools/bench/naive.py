"""The designs to be ahead of: everything anew for every request.

For each piece of the model: read, decrypt, parse a ModelProto, optimise, run,
free. With partitions so works the closest published system, with another
engine; with one piece it is the whole model from encrypted disk.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mbedtls import cipher

from app.engine import WholeModel
from app.tensors import Array
from tools.model_folder import ModelFolder

_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Cipher:
    """An implementation of AES-256-GCM.

    Attributes:
        name: of the library.
        encrypt, decrypt: of key, nonce and text; ciphertexts end with their tag.
    """

    name: str
    encrypt: Callable[[bytes, bytes, bytes], bytes]
    decrypt: Callable[[bytes, bytes, bytes], bytes]


def _mbedtls_encrypt(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    text, tag = cipher.AES.new(key, cipher.MODE_GCM, nonce, b"").encrypt(plain)
    return bytes(text) + bytes(tag)


def _mbedtls_decrypt(key: bytes, nonce: bytes, text: bytes) -> bytes:
    aes = cipher.AES.new(key, cipher.MODE_GCM, nonce, b"")
    return bytes(aes.decrypt(text[:-_TAG_BYTES], text[-_TAG_BYTES:]))


MBEDTLS: Final = Cipher("mbedtls", _mbedtls_encrypt, _mbedtls_decrypt)
"""As the closest published system has it."""

CRYPTOGRAPHY: Final = Cipher(
    "cryptography",
    lambda key, nonce, plain: AESGCM(key).encrypt(nonce, plain, None),
    lambda key, nonce, text: AESGCM(key).decrypt(nonce, text, None),
)
"""The one the bundle's reader uses: with it a comparison is of designs, not of ciphers."""


@dataclass(frozen=True, slots=True)
class _Piece:
    file: Path
    inputs: tuple[str, ...]
    release: tuple[str, ...]


class NaiveRunner:
    """Runs a model the naive way.

    Args:
        folder: the model's folder.
        scratch: where the encrypted pieces go.
        threads: of onnxruntime.
        implementation: of the cipher.
        whole: whether the model is one piece; else its partitions are.

    Attributes:
        phases: nanoseconds of the last run by phase: read, decrypt, bind (parsing and optimising
            into a session), run.
    """

    def __init__(
        self,
        folder: ModelFolder,
        scratch: Path,
        threads: int,
        *,
        implementation: Cipher = MBEDTLS,
        whole: bool = False,
    ) -> None:
        self._threads = threads
        self._cipher = implementation
        self._key = secrets.token_bytes(32)
        self._outputs = tuple(spec.name for spec in folder.plan.outputs)
        self._pieces = [
            self._encrypted(plain, scratch / f"{number}.enc", inputs, release)
            for number, (plain, inputs, release) in enumerate(_parts(folder, whole=whole))
        ]
        self.phases: dict[str, int] = {}

    @property
    def files(self) -> list[Path]:
        """The encrypted pieces."""
        return [piece.file for piece in self._pieces]

    def _encrypted(
        self, plain: Path, target: Path, inputs: tuple[str, ...], release: tuple[str, ...]
    ) -> _Piece:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        target.write_bytes(nonce + self._cipher.encrypt(self._key, nonce, plain.read_bytes()))
        return _Piece(target, inputs, release)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one request; gives the model's outputs by name."""
        self.phases = dict.fromkeys(("read", "decrypt", "bind", "run"), 0)
        values = dict(inputs)
        for piece in self._pieces:
            values |= self._run_piece(piece, {name: values[name] for name in piece.inputs})
            for name in piece.release:
                del values[name]
        return {name: values[name] for name in self._outputs}

    def _run_piece(self, piece: _Piece, wanted: Mapping[str, Array]) -> dict[str, Array]:
        started = time.perf_counter_ns()
        raw = piece.file.read_bytes()
        started = self._count("read", started)
        plain = self._cipher.decrypt(self._key, raw[:_NONCE_BYTES], raw[_NONCE_BYTES:])
        started = self._count("decrypt", started)
        session = WholeModel(plain, "all", self._threads, prepack=True)
        started = self._count("bind", started)
        outputs = session.run(wanted)
        self._count("run", started)
        return outputs

    def _count(self, phase: str, started: int) -> int:
        now = time.perf_counter_ns()
        self.phases[phase] += now - started
        return now


def _parts(
    folder: ModelFolder, *, whole: bool
) -> list[tuple[Path, tuple[str, ...], tuple[str, ...]]]:
    """Gives each piece's file, the values it reads, and those that nobody needs after it."""
    if whole:
        return [(folder.model_path, tuple(spec.name for spec in folder.plan.inputs), ())]
    return [
        (
            folder.partition_path(partition.index),
            tuple(spec.name for spec in partition.inputs),
            partition.release,
        )
        for partition in folder.plan.partitions
    ]
