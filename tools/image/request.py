"""What an image build was asked for, checked once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.acceptance import check_acceptance
from app.bundle import check_sizes, read_manifest
from app.config import DEFAULT_MAX_BATCH, DEFAULT_MAX_DELAY_US, TLS_LIBRARIES, ModelConfig
from app.errors import BundleError
from tools.errors import ImageBuildError
from tools.image.bundle_facts import BundleFacts, read_bundle_facts
from tools.image.identity import Identity
from tools.image.policy import read_configuration
from tools.launcher import ROOT

TEMPLATE = ROOT / "occlum_image" / "Occlum.json"
"""Occlum.json before a build fills it in."""

BUNDLES = "/opt/cloister/bundles"
"""Where a bundle stands that is part of the image."""

BUNDLE_FOLDER = "/host/bundles"
"""Where a folder of bundles on the host is seen."""

HOST = "host"
"""The part of an instance that the host fills and the app sees; not measured."""

ACCESS_POLICY = "/etc/cloister/access.json"
"""Where the access policy stands, measured with the image."""

KEY_FOLDER = "/run/keys"
INSECURE_KEY_FOLDER = "/host/insecure-keys"
CONFIGURATION = "/etc/cloister/config.json"

_NOT_NAMED = Identity()


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """A bundle, where the app finds it, and what its manifest says."""

    source: Path
    place: str
    facts: BundleFacts

    @property
    def is_in_image(self) -> bool:
        """Whether it is packed and measured with the image."""
        return self.place.startswith(f"{BUNDLES}/")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Everything that decides what goes into an image.

    Attributes:
        bundle: a bundle to serve; it is copied into a folder of the instance that the app sees.
        bundle_folder: a folder on the host that holds bundles; read by the app, not measured.
        bundle_in_image: makes `bundle` a part of the image instead.
        insecure_key_folder: a folder on the host with model keys; for development.
        owner_public_key: file with the owner's Ed25519 key, 32 bytes as base64 text.
        mode: "HW" or "SIM".
        production: refuse everything that weakens security.
        port: TCP port.
        names: names and addresses that clients use.
        workers: request threads.
        inference_threads: threads of one session.
        budget_bytes: room for bundles that come into the bundle folder later; the largest budget
            of those that are known counts when it is larger.
        output: the instance folder.
        sign_key: PEM file; made when it doesn't exist.
        access_policy: file that says who may do what; it becomes part of the image.
        insecure_open_access: everybody may ask, instead of a policy.
        tls_library: one of `app.config.TLS_LIBRARIES`.
        log_requests: every request leaves a line in the log.
        max_batch: requests of a model that may run together; None for the app's own choice.
        max_delay_us: how long one may be kept waiting for others to run with.
        tensor_batch: ids of models whose requests may run as rows of one tensor.
        identity: product, security version and family that a quote will name.
        minimum_versions: by model id, "" for those that aren't named: the oldest version that is
            served; the newest that is there where none is given.
        denied_bundles: ids of bundles that are never served, 64 hex digits.
        insecure_bundle_format_1: ids of models whose bundles may be of format 1.
    """

    bundle: Path | None
    bundle_folder: Path | None
    insecure_key_folder: Path | None
    owner_public_key: Path | None
    mode: str
    production: bool
    port: int
    names: tuple[str, ...]
    workers: int
    inference_threads: int
    budget_bytes: int
    output: Path
    sign_key: Path
    access_policy: Path | None = None
    insecure_open_access: bool = False
    tls_library: str = TLS_LIBRARIES[0]
    log_requests: bool = False
    max_batch: int | None = None
    max_delay_us: int = DEFAULT_MAX_DELAY_US
    tensor_batch: tuple[str, ...] = ()
    bundle_in_image: bool = False
    identity: Identity = _NOT_NAMED
    minimum_versions: Mapping[str, int] = field(default_factory=dict)
    denied_bundles: tuple[str, ...] = ()
    insecure_bundle_format_1: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Every reason not to start."""
        found = [
            f"{option}: {path} isn't a folder"
            for option, path in (
                ("--bundle", self.bundle),
                ("--bundle-folder", self.bundle_folder),
                ("--insecure-key-folder", self.insecure_key_folder),
            )
            if path is not None and not path.is_dir()
        ]
        if self.bundle is None and self.bundle_folder is None:
            found.append("name a bundle with --bundle or a folder of them with --bundle-folder")
        elif self.owner_public_key is None:
            found.append("a bundle needs --owner-public-key: the app checks who signed it")
        if self.bundle_in_image and self.bundle is None:
            found.append("--bundle-in-image needs --bundle: a folder of bundles stays on the host")
        if self.bundle is not None and self.bundle_folder is not None and not self.bundle_in_image:
            found.append(
                "--bundle and --bundle-folder exclude each other without --bundle-in-image: put "
                "the bundle into the folder"
            )
        own = (self.output / HOST).resolve()
        for option, path in (
            ("--bundle-folder", self.bundle_folder),
            ("--insecure-key-folder", self.insecure_key_folder),
        ):
            if path is not None and path.resolve().is_relative_to(own):
                found.append(f"{option}: {path} lies in {own}, which every build replaces")
        template = read_configuration(TEMPLATE)
        found += self.identity.problems(template["metadata"], production=self.production)
        if self.production and self.insecure_key_folder is not None:
            found.append("--production and --insecure-key-folder exclude each other")
        if self.access_policy is not None and self.insecure_open_access:
            found.append("--access-policy and --insecure-open-access exclude each other")
        if self.production and self.insecure_open_access:
            found.append("--production and --insecure-open-access exclude each other")
        if self.production and self.insecure_bundle_format_1:
            found.append("--production and --insecure-bundle-format-1 exclude each other")
        if self.production and self.mode != "HW":
            found.append("--production needs --mode HW")
        if self.max_batch is not None and self.max_batch > self.workers:
            found.append(
                f"--max-batch {self.max_batch} needs at least {self.max_batch} --workers, not "
                f"{self.workers}: one waits with every request of a batch; without --workers "
                "there are enough"
            )
        return found

    def host_folders(self) -> dict[str, Path]:
        """Host folders that the app may see, by their place in the image."""
        copied = self.bundle is not None and not self.bundle_in_image
        folders = {
            BUNDLE_FOLDER: host_side(self.output, BUNDLE_FOLDER) if copied else self.bundle_folder,
            INSECURE_KEY_FOLDER: self.insecure_key_folder,
        }
        return {place: path for place, path in folders.items() if path is not None}

    def served(self) -> list[ServedBundle]:
        """The bundles that the app will serve.

        Raises:
            ImageBuildError: one of them can't be read, or a model has none that is served.
        """
        offered = self._offered()
        served = [bundle for bundle in offered if self._why_not(bundle, offered) is None]
        ids = {bundle.facts.model_id for bundle in served}
        without = [bundle for bundle in offered if bundle.facts.model_id not in ids]
        if without:
            raise ImageBuildError(
                "bundles", [f"{self._why_not(each, offered)}" for each in without]
            )
        return served

    def left_out(self) -> list[str]:
        """Says of every bundle that won't be served why."""
        offered = self._offered()
        reasons = (self._why_not(bundle, offered) for bundle in offered)
        return [reason for reason in reasons if reason is not None]

    def _offered(self) -> list[ServedBundle]:
        found: list[ServedBundle] = []
        if self.bundle is not None:
            parent = BUNDLES if self.bundle_in_image else BUNDLE_FOLDER
            place = f"{parent}/{_bundle_name(self.bundle)}"
            found.append(ServedBundle(self.bundle, place, read_bundle_facts(self.bundle)))
        for path in sorted(self.bundle_folder.glob("*.bundle")) if self.bundle_folder else ():
            place = f"{BUNDLE_FOLDER}/{path.name}"
            found.append(ServedBundle(path, place, read_bundle_facts(path)))
        if not found:
            raise ImageBuildError(
                str(self.bundle_folder), ["holds no *.bundle; put one there and build again"]
            )
        return found

    def _why_not(self, bundle: ServedBundle, offered: Sequence[ServedBundle]) -> str | None:
        """Says why a bundle isn't served; None for one that is."""
        facts = bundle.facts
        if facts.bundle_id in self.denied_bundles:
            return f"{bundle.source}: won't be served: --deny-bundle {facts.bundle_id}"
        least = self._minimum_version(facts.model_id, offered)
        if facts.version < least:
            return (
                f"{bundle.source}: version {facts.version} of {facts.model_id} won't be served, "
                f"{least} is the oldest that is; --minimum-version changes that"
            )
        return None

    def _minimum_version(self, model_id: str, bundles: Sequence[ServedBundle]) -> int:
        """The oldest version that is served: the newest that is there, unless another is named."""
        named = self.minimum_versions.get(model_id, self.minimum_versions.get(""))
        versions = [
            bundle.facts.version
            for bundle in bundles
            if bundle.facts.model_id == model_id
            and bundle.facts.bundle_id not in self.denied_bundles
        ]
        return named if named is not None else max(versions, default=1)

    def check_served(self, served: list[ServedBundle]) -> None:
        """Finds out now what would keep the app from starting.

        Raises:
            ImageBuildError: a bundle that the owner didn't sign or that isn't whole, a model
                without a key, or an option for a model that isn't there; lists all.
        """
        found = [problem for bundle in served for problem in self._bundle_problems(bundle)]
        ids = sorted({bundle.facts.model_id for bundle in served})
        found += [
            f"{option} {name}: no such model is served; there are {', '.join(ids)}"
            for option, names in (
                ("--tensor-batch", self.tensor_batch),
                ("--minimum-version", filter(None, self.minimum_versions)),
                ("--insecure-bundle-format-1", self.insecure_bundle_format_1),
            )
            for name in names
            if name not in ids
        ]
        if found:
            raise ImageBuildError("bundles", found)

    def _bundle_problems(self, bundle: ServedBundle) -> list[str]:
        found = []
        if self.owner_public_key is not None:
            raw = base64.b64decode(_public_key(self.owner_public_key))
            wanted = self._wanted(bundle.facts, Ed25519PublicKey.from_public_bytes(raw))
            try:
                manifest = read_manifest(bundle.source, wanted.owner, minimum_version=1)
                check_acceptance(manifest, wanted, datetime.now(UTC))
                check_sizes(bundle.source, manifest)
            except BundleError as error:
                found.append(f"{bundle.source}: {error}")
        folder = self.insecure_key_folder
        if folder is not None and not (folder / f"{bundle.facts.model_id}.key").is_file():
            found.append(f"{folder}: holds no {bundle.facts.model_id}.key")
        return found

    def _wanted(self, facts: BundleFacts, owner: Ed25519PublicKey) -> ModelConfig:
        """What the app will be told of a model."""
        return ModelConfig(
            model_id=facts.model_id,
            bundle=None,
            minimum_version=facts.version,
            owner=owner,
            insecure_bundle_format_1=facts.model_id in self.insecure_bundle_format_1,
        )

    def budget_of(self, served: list[ServedBundle]) -> int:
        """The budget that the image has to have room for, in bytes."""
        return max(self.budget_bytes, *(bundle.facts.budget_bytes for bundle in served))

    def model_keys(self) -> tuple[bytes, ...]:
        """The development keys, so that the image can be searched for them."""
        folder = self.insecure_key_folder
        return tuple(path.read_bytes() for path in sorted(folder.glob("*.key"))) if folder else ()

    def configuration(self, served: list[ServedBundle]) -> dict[str, Any]:
        """The app's configuration file, which is measured."""
        owner = _public_key(self.owner_public_key) if self.owner_public_key else ""
        keys = (
            {"insecure_key_folder": INSECURE_KEY_FOLDER}
            if self.insecure_key_folder is not None
            else {"key_folder": KEY_FOLDER}
        )
        access: dict[str, Any] = {"insecure_open_access": True} if self.insecure_open_access else {}
        if self.access_policy is not None:
            access = {"access_policy": ACCESS_POLICY}
        return {
            "format": 1,
            "sgx_mode": self.mode,
            "production": self.production,
            "listen": {"host": "0.0.0.0", "port": self.port, "names": list(self.names)},  # noqa: S104 - a server in its own box
            "models": self._models(served, owner),
            **({"bundle_folder": BUNDLE_FOLDER} if BUNDLE_FOLDER in self.host_folders() else {}),
            "host_mounts": sorted(self.host_folders()),
            **keys,
            **access,
            "tls_library": self.tls_library,
            "log_requests": self.log_requests,
            "budget_bytes": self.budget_of(served),
            "workers": self.workers,
            "inference_threads": self.inference_threads,
            "max_batch": self.max_batch or min(DEFAULT_MAX_BATCH, self.workers),
            "max_delay_us": self.max_delay_us,
        }

    def _models(self, served: list[ServedBundle], owner: str) -> list[dict[str, Any]]:
        """One entry per model; a bundle in the folder is found there by its manifest."""
        found: dict[str, dict[str, Any]] = {}
        for bundle in served:
            model_id = bundle.facts.model_id
            entry = found.setdefault(
                model_id,
                {
                    "id": model_id,
                    "minimum_version": self._minimum_version(model_id, served),
                    "owner_public_key": owner,
                    "tensor_batch": model_id in self.tensor_batch,
                    "denied_bundles": sorted(set(self.denied_bundles)),
                    "insecure_bundle_format_1": model_id in self.insecure_bundle_format_1,
                },
            )
            if bundle.is_in_image:
                entry["bundle"] = bundle.place
        return list(found.values())


def host_side(instance: Path, place: str) -> Path:
    """Where an instance keeps what is seen at a place below /host: it moves with the instance."""
    return instance / HOST / Path(place).name


def _bundle_name(path: Path) -> str:
    name = path.resolve().name
    return name if name.endswith(".bundle") else f"{name}.bundle"


def _public_key(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
        raw = base64.b64decode(text, validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise ImageBuildError(str(path), [f"isn't a public key in base64: {error}"]) from error
    if len(raw) != 32:
        raise ImageBuildError(str(path), [f"holds {len(raw)} bytes, an Ed25519 key has 32"])
    return text
