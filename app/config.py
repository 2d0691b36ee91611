"""The appliance's configuration: one JSON file, measured with the image, parsed once."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.errors import ConfigError
from app.fields import FieldError, Fields, parse_json
from app.manifest import read_model_id

T = TypeVar("T")

CONFIG_FORMAT: Final = 1
DEFAULT_PATH: Final = Path("/etc/cloister/config.json")
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_MODELS: Final = 64
MAX_THREADS: Final = 64


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        model_id: which model it is, so that the host can't serve another one in its place.
        bundle: its folder.
        minimum_version: the oldest version accepted, so that the host can't roll back.
        owner: who must have signed it.
    """

    model_id: str
    bundle: Path
    minimum_version: int
    owner: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and key to use instead of making them at start."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the appliance is told.

    Attributes:
        sgx_mode: "HW" or "SIM": what the image was built for.
        production: whether insecure settings are refused.
        host, port: where to listen.
        names: DNS names and addresses that the certificate made at start is for.
        models: what to serve.
        key_folder: where model keys lie.
        insecure_keys: whether the host can read that folder.
        budget_bytes: bound on each model's memory.
        workers: requests handled at a time; one of them computes.
        inference_threads: threads that one run may use.
        tls: None to make key and certificate inside at start.
    """

    sgx_mode: str
    production: bool
    host: str
    port: int
    names: tuple[str, ...]
    models: tuple[ModelConfig, ...]
    key_folder: Path
    insecure_keys: bool
    budget_bytes: int
    workers: int
    inference_threads: int
    tls: TlsFiles | None

    def insecure_settings(self) -> tuple[str, ...]:
        """Names every setting that weakens security."""
        return ("insecure_key_folder",) if self.insecure_keys else ()


def read_config(path: Path, root: Path = Path("/")) -> Config:
    """Reads the configuration.

    Args:
        path: the file.
        root: the folder that absolute paths in it start from.

    Raises:
        ConfigError: listing every problem found.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ConfigError(str(path), [f"more than {MAX_CONFIG_BYTES} bytes"])
        fields = Fields(parse_json(raw), "config")
    except OSError as error:
        raise ConfigError(str(path), [error.strerror or str(error)]) from error
    except FieldError as error:
        raise ConfigError(str(path), [str(error)]) from error
    reading = _Reading(fields, root)
    config = reading.config()
    if reading.problems:
        raise ConfigError(str(path), reading.problems)
    return config


class _Reading:
    """Reads on after a problem, so that all of them are reported at once."""

    def __init__(self, fields: Fields, root: Path) -> None:
        self.problems: list[str] = []
        self._fields = fields
        self._root = root

    def config(self) -> Config:
        fields = self._fields
        self._try(lambda: fields.integer("format", least=CONFIG_FORMAT, most=CONFIG_FORMAT), 0)
        nowhere: tuple[str, int, tuple[str, ...]] = ("", 0, ())
        host, port, names = self._try(self._listen, nowhere)
        key_folder, insecure_keys = self._try(self._keys, (Path(), False))
        config = Config(
            sgx_mode=self._try(lambda: fields.choice("sgx_mode", ("HW", "SIM")), "SIM"),
            production=self._try(lambda: fields.flag("production"), False),
            host=host,
            port=port,
            names=names,
            models=self._try(lambda: fields.each("models", self._model, most=MAX_MODELS), ()),
            key_folder=key_folder,
            insecure_keys=insecure_keys,
            budget_bytes=self._count("budget_bytes", 1 << 40),
            workers=self._count("workers", MAX_THREADS),
            inference_threads=self._count("inference_threads", MAX_THREADS),
            tls=self._try(self._tls, None),
        )
        self._try(fields.done, None)
        self._check(config)
        return config

    def _try(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except FieldError as error:
            self.problems.append(str(error))
            return otherwise

    def _count(self, name: str, most: int) -> int:
        return self._try(lambda: self._fields.integer(name, least=1, most=most), 1)

    def _listen(self) -> tuple[str, int, tuple[str, ...]]:
        inner = self._fields.inner("listen")
        found = (
            inner.text("host", longest=255),
            inner.integer("port", least=0, most=65535),
            inner.texts("names", most=64),
        )
        inner.done()
        return found

    def _keys(self) -> tuple[Path, bool]:
        found = [n for n in ("key_folder", "insecure_key_folder") if self._fields.has(n)]
        if len(found) != 1:
            for name in found:
                self._fields.take(name)
            raise FieldError(
                "config: expected one of 'key_folder' and 'insecure_key_folder', "
                f"got {' and '.join(found) or 'neither'}"
            )
        return self._path(self._fields, found[0]), found[0].startswith("insecure_")

    def _model(self, fields: Fields) -> ModelConfig:
        return ModelConfig(
            model_id=read_model_id(fields),
            bundle=self._path(fields, "bundle"),
            minimum_version=fields.integer("minimum_version", least=1, most=1 << 31),
            owner=_read_owner(fields),
        )

    def _tls(self) -> TlsFiles | None:
        if not self._fields.has("tls"):
            return None
        inner = self._fields.inner("tls")
        found = TlsFiles(self._path(inner, "certificate"), self._path(inner, "private_key"))
        inner.done()
        return found

    def _path(self, fields: Fields, name: str) -> Path:
        path = Path(fields.text(name, longest=4096))
        if not path.is_absolute():
            raise FieldError(f"{fields.where}.{name}: expected an absolute path, got {str(path)!r}")
        return self._root / path.relative_to("/")

    def _check(self, config: Config) -> None:
        if not config.models and not self.problems:
            self.problems.append("config.models: expected at least one model")
        if config.production:
            self.problems += [
                f"config.{name}: refused in production" for name in config.insecure_settings()
            ]
            if config.sgx_mode != "HW":
                self.problems.append("config.sgx_mode: production needs 'HW'")


def _read_owner(fields: Fields) -> Ed25519PublicKey:
    text = fields.text("owner_public_key", longest=64)
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise FieldError(f"{fields.where}.owner_public_key: expected 32 bytes as base64") from error
