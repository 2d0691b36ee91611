"""The appliance's configuration: one JSON file, measured with the image, parsed once."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.errors import ConfigError
from app.fields import FieldError, Fields, parse_json
from app.limits import MAX_BATCH, MAX_DELAY_US, MAX_DENIED_BUNDLES
from app.manifest import read_model_id
from app.release import read_bundle_id

T = TypeVar("T")

CONFIG_FORMAT: Final = 1
DEFAULT_PATH: Final = Path("/etc/cloister/config.json")
HOST_PLACES: Final = tuple(
    Path(place)
    for place in (
        "/host",
        "/dev",
        "/proc",
        "/sys",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
    )
)
"""What the host fills whatever is mounted: Occlum's usual place for a folder of the host, standard
input and other devices, and the files that Occlum copies from the host at start."""
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_MODELS: Final = 64
MAX_THREADS: Final = 64
TLS_LIBRARIES: Final = ("mbedtls", "openssl")
"""What TLS may run on, the default first."""
MAX_HOST_MOUNTS: Final = 64
_MAX_LINKS: Final = 40
"""Symbolic links on the way to a file, as Linux has it."""

_AUTHENTICATED: Final = frozenset(
    {"config.bundle_folder", "config.models.bundle", "config.insecure_key_folder"}
)
"""Paths that may be the host's: a bundle is verified object by object, and the folder of keys has
a name of its own. Every other path of the configuration decides something by what lies there."""

DEFAULT_MAX_BATCH: Final = 8
"""Requests that run together where that pays; wider batches gain little and delay all answers."""
DEFAULT_MAX_DELAY_US: Final = 100_000
"""Eight clients of a large model that got their answers together are back within this time; a small
model's don't wait as long, see `app.serving.batching`."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        model_id: which model it is, so that the host can't serve another one in its place.
        bundle: its folder; None when it comes from the bundle folder.
        minimum_version: the oldest version accepted, so that the host can't roll back.
        owner: who must have signed it.
        tensor_batch: whether requests may be run as rows of one tensor, with other last bits.
        denied_bundles: ids of bundles that are refused whatever their version.
        insecure_bundle_format_1: whether bundles are served whose owner didn't say for which key
            they are, so that whoever brings the key brings the model.
    """

    model_id: str
    bundle: Path | None
    minimum_version: int
    owner: Ed25519PublicKey
    tensor_batch: bool = False
    denied_bundles: frozenset[bytes] = frozenset()
    insecure_bundle_format_1: bool = False


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
        bundle_folder: where further versions of them may lie, or None.
        key_folder: where model keys lie.
        insecure_keys: whether the host can read that folder.
        budget_bytes: bound on the memory of all models together.
        workers: requests handled at a time; of each model one computes.
        inference_threads: threads that one run may use.
        max_batch: requests of a model that may run together.
        max_delay_us: how long one may be kept waiting for others to run with.
        tls: None to make key and certificate inside at start.
        client_ca: certificates that those of clients must lead to; None asks for none.
        tls_library: one of `TLS_LIBRARIES`.
        access_policy: file that says who may do what; None lets nobody ask anything but health.
        insecure_open_access: lets everybody ask, instead of a policy.
        log_requests: whether every request leaves a line in the log, which the host reads.
        host_provided: fields whose path leads through what the host fills, as "tls_private_key".
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
    client_ca: Path | None = None
    tls_library: str = TLS_LIBRARIES[0]
    bundle_folder: Path | None = None
    max_batch: int = DEFAULT_MAX_BATCH
    max_delay_us: int = DEFAULT_MAX_DELAY_US
    access_policy: Path | None = None
    insecure_open_access: bool = False
    log_requests: bool = False
    host_provided: tuple[str, ...] = ()

    def insecure_settings(self) -> tuple[str, ...]:
        """Names every setting that weakens security."""
        settings = {
            "insecure_key_folder": self.insecure_keys,
            "insecure_open_access": self.insecure_open_access,
            "insecure_bundle_format_1": any(
                model.insecure_bundle_format_1 for model in self.models
            ),
            **{f"insecure_{name}": True for name in self.host_provided},
        }
        return tuple(name for name, is_set in settings.items() if is_set)


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
        self._paths: dict[str, Path] = {}
        self._knows_mounts = fields.has("host_mounts")

    def config(self) -> Config:
        fields = self._fields
        self._try(lambda: fields.integer("format", least=CONFIG_FORMAT, most=CONFIG_FORMAT), 0)
        nowhere: tuple[str, int, tuple[str, ...]] = ("", 0, ())
        host, port, names = self._try(self._listen, nowhere)
        key_folder, insecure_keys = self._try(self._keys, (Path(), False))
        unread: tuple[TlsFiles | None, Path | None] = (None, None)
        tls, client_ca = self._try(self._tls, unread)
        bundle_folder = self._try(lambda: self._optional_path("bundle_folder"), None)
        access_policy = self._try(lambda: self._optional_path("access_policy"), None)
        hosts = [self._root / place.relative_to("/") for place in HOST_PLACES]
        hosts += self._try(self._host_mounts, [])
        hosts += [bundle_folder] if bundle_folder is not None else []
        hosts += [key_folder] if insecure_keys else []
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
            tls=tls,
            client_ca=client_ca,
            tls_library=self._try(self._tls_library, TLS_LIBRARIES[0]),
            bundle_folder=bundle_folder,
            host_provided=self._host_provided(hosts),
            access_policy=access_policy,
            insecure_open_access=self._flag("insecure_open_access"),
            log_requests=self._flag("log_requests"),
            max_batch=self._optional("max_batch", 1, MAX_BATCH, DEFAULT_MAX_BATCH),
            max_delay_us=self._optional("max_delay_us", 0, MAX_DELAY_US, DEFAULT_MAX_DELAY_US),
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

    def _optional(self, name: str, least: int, most: int, otherwise: int) -> int:
        if not self._fields.has(name):
            return otherwise
        return self._try(lambda: self._fields.integer(name, least=least, most=most), otherwise)

    def _optional_path(self, name: str) -> Path | None:
        return self._path(self._fields, name) if self._fields.has(name) else None

    def _flag(self, name: str) -> bool:
        """Reads a flag that is off where it isn't given."""
        return self._fields.has(name) and self._try(lambda: self._fields.flag(name), False)

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
            bundle=self._path(fields, "bundle") if fields.has("bundle") else None,
            minimum_version=fields.integer("minimum_version", least=1, most=1 << 31),
            owner=_read_owner(fields),
            tensor_batch=_read_flag(fields, "tensor_batch"),
            denied_bundles=_read_denied(fields),
            insecure_bundle_format_1=_read_flag(fields, "insecure_bundle_format_1"),
        )

    def _tls(self) -> tuple[TlsFiles | None, Path | None]:
        """Gives the server's files, None to make them inside, and those for clients."""
        if not self._fields.has("tls"):
            return None, None
        inner = self._fields.inner("tls")
        client_ca = self._path(inner, "client_ca") if inner.has("client_ca") else None
        files = None
        if client_ca is None or inner.has("certificate") or inner.has("private_key"):
            files = TlsFiles(self._path(inner, "certificate"), self._path(inner, "private_key"))
        inner.done()
        return files, client_ca

    def _tls_library(self) -> str:
        name = "tls_library"
        if not self._fields.has(name):
            return TLS_LIBRARIES[0]
        return self._fields.choice(name, TLS_LIBRARIES)

    def _path(self, fields: Fields, name: str) -> Path:
        path = self._below_root(f"{fields.where}.{name}", fields.text(name, longest=4096))
        # Of a list's entries the name is the same: config.models[3].bundle.
        self._paths[f"{fields.where.partition('[')[0]}.{name}"] = path
        return path

    def _below_root(self, where: str, text: str) -> Path:
        path = Path(text)
        if not path.is_absolute():
            raise FieldError(f"{where}: expected an absolute path, got {text!r}")
        return self._root / path.relative_to("/")

    def _host_mounts(self) -> list[Path]:
        """Reads what the image's build says of mounts; production has to know."""
        name = "host_mounts"
        if not self._knows_mounts:
            return []
        texts = self._fields.texts(name, most=MAX_HOST_MOUNTS)
        return [self._below_root(f"config.{name}", text) for text in texts]

    def _host_provided(self, hosts: Sequence[Path]) -> tuple[str, ...]:
        return tuple(
            where.removeprefix("config.").replace(".", "_")
            for where, path in self._paths.items()
            if where not in _AUTHENTICATED and _leads_through(path, hosts)
        )

    def _check(self, config: Config) -> None:
        if not config.models and not self.problems:
            self.problems.append("config.models: expected at least one model")
        if config.bundle_folder is None:
            self.problems += [
                f"config.models[{index}]: expected a 'bundle', as there is no 'bundle_folder'"
                for index, model in enumerate(config.models)
                if model.bundle is None
            ]
        if config.access_policy is not None and config.insecure_open_access:
            self.problems.append(
                "config: 'access_policy' and 'insecure_open_access' exclude each other"
            )
        if config.production:
            self.problems += [
                f"config.{name}: refused in production" for name in config.insecure_settings()
            ]
            if not self._knows_mounts:
                self.problems.append(
                    "config.host_mounts: production needs to know the folders that the host "
                    "mounts, [] if there is none"
                )
            if config.sgx_mode != "HW":
                self.problems.append("config.sgx_mode: production needs 'HW'")


def _leads_through(file: Path, places: Sequence[Path]) -> bool:
    """Whether the way to a file, link by link, leads to or through one of some places.

    Who fills a place decides where a link in it leads, so the last file alone says too little.
    """
    names = {name for place in places for name in _names(place)}
    return any(_walk_meets(Path(way), names) for way in (file, os.path.normpath(file)))


def _names(place: Path) -> set[Path]:
    """A folder's path as written and as it is, and its own name in the folder that it is in."""
    plain = Path(os.path.normpath(place))
    return {plain, Path(os.path.realpath(plain)), Path(os.path.realpath(plain.parent), plain.name)}


def _walk_meets(way: Path, places: set[Path]) -> bool:
    reached, ahead, links = Path("/"), list(reversed(way.parts[1:])), 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            reached = reached.parent
            continue
        reached /= name
        if reached in places:
            return True
        try:
            target = reached.readlink()
        except OSError:
            continue  # no link
        links += 1
        if links > _MAX_LINKS:
            return True  # it goes round: nobody can say where it leads
        reached = Path("/") if target.is_absolute() else reached.parent
        ahead += [part for part in reversed(target.parts) if part != "/"]
    return False


def _read_flag(fields: Fields, name: str) -> bool:
    """Reads a flag that is off where it isn't given."""
    return fields.has(name) and fields.flag(name)


def _read_denied(fields: Fields) -> frozenset[bytes]:
    name = "denied_bundles"
    texts = fields.texts(name, most=MAX_DENIED_BUNDLES) if fields.has(name) else ()
    try:
        return frozenset(map(read_bundle_id, texts))
    except ValueError as error:
        raise FieldError(f"{fields.where}.{name}: {error}") from error


def _read_owner(fields: Fields) -> Ed25519PublicKey:
    text = fields.text("owner_public_key", longest=64)
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise FieldError(f"{fields.where}.owner_public_key: expected 32 bytes as base64") from error
