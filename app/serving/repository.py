"""Bundles on disk: those that the configuration names, and those in the bundle folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.acceptance import check_acceptance
from app.bundle import BundleReader, SignedManifest
from app.card import ModelCard
from app.config import Config, ModelConfig
from app.cpu import ANY, this_cpu
from app.engine import VERSION, OrtEngine
from app.errors import (
    ApplianceError,
    BundleFormatError,
    BundleIntegrityError,
    BundleReadError,
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
        now: tells the time, to see whether it has expired.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        wanted: ModelConfig,
        config: Config,
        *,
        keys: KeySource,
        now: Clock,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._wanted = wanted
        self._config = config
        self._keys = keys
        self._now = now
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
        self._check_expiry()
        reader = self._reader()
        # Every object is authenticated before anything is loaded.
        reader.verify()
        self._card = reader.read_card()
        return Verified(self._card, _needs(reader), self._check_expiry)

    def _check_expiry(self) -> None:
        self._manifest.check_expiry(self._now())

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


Clock = Callable[[], datetime]
"""Gives the time of day with its time zone. In an enclave it is the host's word."""


def time_of_day() -> datetime:
    """Gives the time by the machine's clock, UTC."""
    return datetime.now(UTC)


def find_bundles(config: Config, keys: KeySource, now: Clock = time_of_day) -> Scan:
    """Looks for bundles and verifies their manifests, nothing else."""
    bundles: list[FolderBundle] = []
    refused: list[tuple[str, ApplianceError]] = []
    for name, find in _candidates(config):
        try:
            folder, manifest, wanted = find()
            check_acceptance(manifest, wanted, now())
        except ApplianceError as error:
            refused.append((name, error))
        else:
            bundles.append(FolderBundle(folder, manifest, wanted, config, keys=keys, now=now))
    return Scan(tuple(bundles), tuple(refused))


_Find = Callable[[], tuple[Path, Manifest, ModelConfig]]


def _candidates(config: Config) -> Iterator[tuple[str, _Find]]:
    """Gives what a bundle is called, and how its folder and manifest are had.

    Those of the bundle folder come first: where both have a version, the configured one counts.
    """
    if config.bundle_folder is not None:
        yield from _candidates_in(config.bundle_folder, config.models)
    for model in config.models:
        if model.bundle is not None:
            yield model.model_id, partial(_find_configured, model.bundle, model)


def _candidates_in(parent: Path, models: Sequence[ModelConfig]) -> Iterator[tuple[str, _Find]]:
    owners = {model.owner.public_bytes_raw(): model.owner for model in models}
    by_id = {model.model_id: model for model in models}
    try:
        folders = sorted(islice(_bundles_in(parent), MAX_BUNDLES))
    except OSError as error:
        yield "bundle_folder", partial(_fail, BundleReadError(parent, error))
        return
    for folder in folders:
        yield folder.name, partial(_find_any, folder, owners, by_id)


def _bundles_in(parent: Path) -> Iterator[Path]:
    """Gives the bundles of a folder; a folder that isn't there has none."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(parent) as entries:
        yield from (parent / entry.name for entry in entries if entry.name.endswith(SUFFIX))


def _fail(error: ApplianceError) -> NoReturn:
    raise error


def _find_configured(folder: Path, wanted: ModelConfig) -> tuple[Path, Manifest, ModelConfig]:
    return folder, SignedManifest.read(folder).verified(wanted.owner), wanted


def _find_any(
    folder: Path, owners: Mapping[bytes, Ed25519PublicKey], by_id: Mapping[str, ModelConfig]
) -> tuple[Path, Manifest, ModelConfig]:
    """Reads a bundle of any configured model: signed by that model's owner.

    Raises:
        BundleIntegrityError: no owner signed it, or not the owner of that model.
    """
    signed = SignedManifest.read(folder)
    for raw, owner in owners.items():
        try:
            manifest = signed.verified(owner)
        except BundleIntegrityError:
            continue
        wanted = by_id.get(manifest.identity.model_id)
        if wanted is None or wanted.owner.public_bytes_raw() != raw:
            break
        return folder, manifest, wanted
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
