"""Bundles on disk: those that the configuration names, and those in the bundle folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.bundle import BundleReader, read_manifest
from app.card import ModelCard
from app.config import Config, ModelConfig
from app.cpu import ANY, this_cpu
from app.engine import VERSION, OrtEngine
from app.errors import (
    ApplianceError,
    BundleFormatError,
    BundleIntegrityError,
    MemoryBudgetError,
)
from app.keys import KeySource
from app.limits import MAX_BUNDLES
from app.manifest import Manifest
from app.objects import Identity
from app.runner import Runner
from app.schedule import lanes
from app.serving.models import Opened, Scan, Verified
from app.serving.shares import Needs, needs_of
from app.serving.together import LockStep, Rows, best_width, can_join

SUFFIX = ".bundle"
"""What is a bundle in the bundle folder; a copy on its way there goes by another name."""


class FolderBundle:
    """A bundle whose manifest the model's owner signed; see `app.serving.models.Bundle`.

    Args:
        folder: where it lies.
        manifest: from `read_manifest`.
        wanted: what the configuration says of the model.
        config: threads and batches.
        keys: where the model key comes from.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        wanted: ModelConfig,
        config: Config,
        keys: KeySource,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._wanted = wanted
        self._config = config
        self._keys = keys
        # With one computing thread another core is free to decrypt meanwhile.
        self._overlap = config.inference_threads == 1
        self._card: ModelCard | None = None

    @property
    def identity(self) -> Identity:
        """See `Bundle`."""
        return self._manifest.identity

    def verify(self) -> Verified:
        """See `Bundle`."""
        self._check_fit()
        reader = self._reader()
        # Every object is authenticated before anything is loaded.
        reader.verify()
        self._card = reader.read_card()
        return Verified(self._card, _needs(reader))

    def open(self, budget_bytes: int) -> Opened:
        """See `Bundle`. How many requests run together is decided by what the room is good for."""
        reader = self._reader()
        card = self._card or reader.read_card()
        engine = OrtEngine(self._config.inference_threads)

        def make(lock_step: int, growth: int) -> Runner:
            return Runner(
                reader,
                engine,
                budget_bytes,
                card.inputs,
                card.outputs,
                lock_step=lock_step,
                growth=growth,
                overlap=self._overlap,
            )

        by_rows = self._wanted.tensor_batch and can_join(card.inputs, card.outputs)
        if by_rows:
            width = _widest(lambda rows: make(1, rows), self._config.max_batch)
            runner = make(1, width)
            return Opened(runner, Rows(runner, width), self._summary(runner, width))
        width = best_width(lambda requests: _request_ns(lambda: make(requests, 1)), self._most())
        runner = make(width, 1)
        return Opened(runner, LockStep(runner, width), self._summary(runner, width))

    def _most(self) -> int:
        return min(self._config.max_batch, self._config.workers)

    def _reader(self) -> BundleReader:
        model_key = self._keys.model_key(self.identity.model_id)
        loading = lanes(each.weights_bytes for each in self._manifest.partitions)
        return BundleReader(self._folder, self._manifest, model_key, lanes=loading)

    def _check_fit(self) -> None:
        manifest = self._manifest
        if manifest.onnxruntime != VERSION and manifest.optimization != "none":
            raise BundleFormatError(
                f"optimised for onnxruntime {manifest.onnxruntime}, "
                f"this image has {VERSION}; write the bundle again with the image's version"
            )
        if manifest.cpu not in (ANY, cpu := this_cpu()):
            raise BundleFormatError(
                f"{self._folder}: optimised for CPUs of the class {manifest.cpu}, this one is "
                f"{cpu}; partition the model with '--optimization extended' for any, or on such "
                "a CPU"
            )

    def _summary(self, runner: Runner, width: int) -> str:
        together = f", up to {width} requests together" if width > 1 else ""
        return (
            f"{len(self._manifest.partitions)} partitions, every object authenticated, "
            f"{len(runner.schedule.pinned)} of them kept in memory{together}"
        )


def find_bundles(config: Config, keys: KeySource) -> Scan:
    """Looks for bundles and verifies their manifests, nothing else."""
    bundles: list[FolderBundle] = []
    refused: list[tuple[str, ApplianceError]] = []
    for name, folder, read in _candidates(config):
        try:
            manifest, wanted = read()
        except ApplianceError as error:
            refused.append((name, error))
        else:
            bundles.append(FolderBundle(folder, manifest, wanted, config, keys))
    return Scan(tuple(bundles), tuple(refused))


_Read = Callable[[], tuple[Manifest, ModelConfig]]


def _candidates(config: Config) -> Iterator[tuple[str, Path, _Read]]:
    """Gives what a bundle is called, its folder, and how its manifest is read.

    Those of the bundle folder come first: where both have a version, the configured one counts.
    """
    owners = {model.owner.public_bytes_raw(): model.owner for model in config.models}
    by_id = {model.model_id: model for model in config.models}
    if config.bundle_folder is not None:
        found = sorted(islice(config.bundle_folder.glob(f"*{SUFFIX}"), MAX_BUNDLES))
        for folder in found:
            yield folder.name, folder, lambda folder=folder: _read_any(folder, owners, by_id)  # type: ignore[misc]
    for model in config.models:
        if model.bundle is not None:
            folder = model.bundle
            yield model.model_id, folder, lambda folder=folder, model=model: _read(folder, model)  # type: ignore[misc]


def _read(folder: Path, wanted: ModelConfig) -> tuple[Manifest, ModelConfig]:
    manifest = read_manifest(
        folder, wanted.owner, minimum_version=wanted.minimum_version, model_id=wanted.model_id
    )
    return manifest, wanted


def _read_any(
    folder: Path, owners: Mapping[bytes, Ed25519PublicKey], by_id: Mapping[str, ModelConfig]
) -> tuple[Manifest, ModelConfig]:
    """Reads a bundle of any configured model: signed by that model's owner, not older than it may.

    Raises:
        BundleIntegrityError: no owner signed it, or not the owner of that model.
    """
    for raw, owner in owners.items():
        try:
            manifest = read_manifest(folder, owner, minimum_version=1)
        except BundleIntegrityError:
            continue
        wanted = by_id.get(manifest.identity.model_id)
        if wanted is None or wanted.owner.public_bytes_raw() != raw:
            break
        return _read(folder, wanted)
    raise BundleIntegrityError


def _needs(reader: BundleReader) -> Needs:
    count = range(reader.partition_count)
    layouts = [reader.read_structure(index)[0] for index in count]
    sizes: Sequence[int] = [reader.weights_bytes(index) for index in count]
    return needs_of(layouts, sizes, reader.scratch_bytes)


def _request_ns(make: Callable[[], Runner]) -> int | None:
    """Predicted time of a full batch; None when it doesn't fit."""
    try:
        runner = make()
    except MemoryBudgetError:
        return None
    runner.close()
    return runner.schedule.request_ns


def _widest(make: Callable[[int], Runner], most: int) -> int:
    """Halves a width until its runner fits."""
    if most == 1 or _request_ns(lambda: make(most)) is not None:
        return most
    return _widest(make, most // 2)
