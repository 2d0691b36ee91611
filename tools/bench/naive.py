"""The design to be ahead of: everything anew for every request.

For each partition: read, decrypt with python-mbedtls, parse a ModelProto,
optimise, run, free. So works the closest published system, with another engine.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from mbedtls import cipher

from app.engine import WholeModel
from app.tensors import Array
from tools.model_folder import ModelFolder

_NONCE_BYTES = 12


class NaiveRunner:
    """Runs a model's partitions the naive way.

    Args:
        folder: the model's folder.
        scratch: where the encrypted partitions go.
        threads: of onnxruntime.
    """

    def __init__(self, folder: ModelFolder, scratch: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._key = secrets.token_bytes(32)
        self._files = []
        for partition in folder.plan.partitions:
            target = scratch / f"{partition.index}.enc"
            plain = folder.partition_path(partition.index).read_bytes()
            nonce = secrets.token_bytes(_NONCE_BYTES)
            text, tag = self._cipher(nonce).encrypt(plain)
            target.write_bytes(nonce + tag + text)
            self._files.append(target)

    def _cipher(self, nonce: bytes) -> cipher.AEADCipher:
        return cipher.AES.new(self._key, cipher.MODE_GCM, nonce, b"")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one request; gives the model's outputs by name."""
        values = dict(inputs)
        for partition, file in zip(self._folder.plan.partitions, self._files, strict=True):
            raw = file.read_bytes()
            nonce, tag, text = raw[:12], raw[12:28], raw[28:]
            plain = self._cipher(nonce).decrypt(text, tag)
            wanted = {spec.name: values[spec.name] for spec in partition.inputs}
            values |= WholeModel(plain, "all", self._threads, prepack=True).run(wanted)
            for name in partition.release:
                del values[name]
        return {spec.name: values[spec.name] for spec in self._folder.plan.outputs}
