"""Bundles on disk: those that the configuration names, and those in the bundle folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from app.acceptance import check_acceptance
from app.bundle import BundleReader, SignedManifest
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


@dataclass(frozen=True, slots=True)
class FolderBundle:
    """A `Bundle` whose manifest the model's owner signed.

    Attributes:
        folder: where it lies.
        manifest: accepted.
        wanted: what the configuration says of the model.
        config: threads and batches.
        keys: where the model key comes from.
        now: tells the time, to see whether it has expired.
    """

    folder: Path
    manifest: Manifest
    wanted: ModelConfig
    config: Config
    keys: KeySource
    now: Clock

    @property
    def identity(self) -> Identity:
        """Model id, version and the bundle's own id."""
        return self.manifest.identity

    def verify(self) -> Verified:
        """Authenticates every object before anything is loaded."""
        self._check_fit()
        self._check_expiry()
        reader = self._reader()
        reader.verify()
        return Verified(reader.read_card(), _needs(reader), self._check_expiry)

    def _check_expiry(self) -> None:
        self.manifest.check_expiry(self.now())

    def open(self, budget_bytes: int) -> Opened:
        """Loads it; what there is room and time for decides how many requests run together."""
        reader = self._reader()
        card = reader.read_card()
        engine = OrtEngine(self.config.inference_threads)

        def make(lock_step: int, growth: int) -> Runner:
            return Runner(
                reader,
                engine,
                budget_bytes,
                card.inputs,
                card.outputs,
                lock_step=lock_step,
                growth=growth,
                # With one computing thread another core is free to decrypt meanwhile.
                overlap=self.config.inference_threads == 1,
            )

        def predicted_ns(lock_step: int, growth: int) -> int | None:
            """Time of a full batch; None when it doesn't fit."""
            try:
                runner = make(lock_step, growth)
            except MemoryBudgetError:
                return None
            runner.close()
            return runner.schedule.request_ns

        together: LockStep | Rows
        if self.wanted.tensor_batch and can_join(card.inputs, card.outputs):
            width = self.config.max_batch
            while width > 1 and predicted_ns(1, width) is None:
                width //= 2
            together = Rows(make(1, width), width)
        else:
            most = min(self.config.max_batch, self.config.workers)
            width = best_width(lambda width: predicted_ns(width, 1), most)
            together = LockStep(make(width, 1), width)
        runner = together.runner
        return Opened(
            runner,
            together,
            f"{len(self.manifest.partitions)} partitions, every object authenticated, "
            f"{len(runner.schedule.pinned)} of them kept in memory"
            + (f", up to {width} requests together" if width > 1 else ""),
        )

    def _reader(self) -> BundleReader:
        model_key = self.keys.model_key(self.identity.model_id)
        loading = lanes(each.weights_bytes for each in self.manifest.partitions)
        return BundleReader(self.folder, self.manifest, model_key, lanes=loading)

    def _check_fit(self) -> None:
        manifest = self.manifest
        if manifest.onnxruntime != VERSION and manifest.optimization != "none":
            raise BundleFormatError(
                f"optimised for onnxruntime {manifest.onnxruntime}, "
                f"this image has {VERSION}; write the bundle again with the image's version"
            )
        if manifest.cpu not in (ANY, cpu := this_cpu()):
            raise BundleFormatError(
                f"{self.folder}: optimised for CPUs of the class {manifest.cpu}, this one is "
                f"{cpu}; partition the model with '--optimization extended' for any, or on such "
                "a CPU"
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
    places: list[tuple[str, Path, ModelConfig | None]] = []
    if config.bundle_folder is not None:
        try:
            folders = sorted(islice(_bundles_in(config.bundle_folder), MAX_BUNDLES))
        except OSError as error:
            refused.append(("bundle_folder", BundleReadError(config.bundle_folder, error)))
        else:
            places += [(folder.name, folder, None) for folder in folders]
    # Behind those of the folder: where both have a version, the configured one counts.
    places += [(model.model_id, model.bundle, model) for model in config.models if model.bundle]
    for name, folder, model in places:
        try:
            manifest, wanted = _read_manifest(folder, model, config.models)
            check_acceptance(manifest, wanted, now())
        except ApplianceError as error:
            refused.append((name, error))
        else:
            bundles.append(FolderBundle(folder, manifest, wanted, config, keys, now))
    return Scan(tuple(bundles), tuple(refused))


def _bundles_in(parent: Path) -> Iterator[Path]:
    """Gives the bundles of a folder; a folder that isn't there has none."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(parent) as entries:
        yield from (parent / entry.name for entry in entries if entry.name.endswith(SUFFIX))


def _read_manifest(
    folder: Path, model: ModelConfig | None, models: Sequence[ModelConfig]
) -> tuple[Manifest, ModelConfig]:
    """Reads a bundle of a configured model, or of any of them: signed by that model's owner.

    Raises:
        BundleIntegrityError: no owner signed it, or not the owner of that model.
    """
    signed = SignedManifest.read(folder)
    if model is not None:
        return signed.verified(model.owner), model
    for owner in {each.owner.public_bytes_raw(): each.owner for each in models}.values():
        with suppress(BundleIntegrityError):
            manifest = signed.verified(owner)
            for wanted in models:
                if (wanted.model_id, wanted.owner) == (manifest.identity.model_id, owner):
                    return manifest, wanted
    raise BundleIntegrityError


def _needs(reader: BundleReader) -> Needs:
    count = range(reader.partition_count)
    layouts = [reader.read_structure(index)[0] for index in count]
    sizes: Sequence[int] = [reader.weights_bytes(index) for index in count]
    return needs_of(layouts, sizes, reader.scratch_bytes)
