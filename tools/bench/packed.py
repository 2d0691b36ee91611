"""The packed image as a server to measure, in whatever runtime this machine has."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tools.bench.client import Endpoint
from tools.bundling.keys import encode_public_key
from tools.image.appliance import RunningImage, running_image
from tools.image.processes import output_of
from tools.launcher import ROOT
from tools.model_folder import ModelFolder
from tools.serving_client import Trust

BUILD: Final = str(ROOT / "occlum_image" / "build.sh")
OPEN: Final = "--insecure-open-access"


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A built image.

    Attributes:
        instance: its folder.
        model: the id that it serves.
        files: what it reads while it answers.
    """

    instance: Path
    model: str
    files: tuple[Path, ...]


def build_image(
    folder: ModelFolder,
    bundle: Path,
    target: Path,
    threads: int,
    *,
    access_policy: Path | None = None,
    max_batch: int | None = None,
    max_delay_us: int | None = None,
    beside: Mapping[str, Path] = MappingProxyType({}),
    budget_bytes: int = 0,
) -> PackedModel:
    """Builds an image that serves bundles from a folder of the host.

    Args:
        folder: the model's folder.
        bundle: its bundle, with the keys that the benchmark wrote beside it.
        target: an empty folder for keys, bundle and instance.
        threads: of onnxruntime.
        access_policy: who may ask; None: everybody.
        max_batch: requests that may run together; None for build.sh's default.
        max_delay_us: how long one may be kept waiting for others; None likewise.
        beside: further bundles with the same keys, by their models' ids.
        budget_bytes: at least so much for all models together.

    Raises:
        ImageBuildError: with what the build said.
    """
    bundles, keys = target / "bundles", target / "keys"
    bundles.mkdir(parents=True)
    keys.mkdir()
    served = bundles / f"{folder.model_id}.bundle"
    for model_id, path in {folder.model_id: bundle, **beside}.items():
        target_bundle = bundles / f"{model_id}.bundle"
        shutil.copytree(path, target_bundle, ignore=shutil.ignore_patterns("bench.*"))
        shutil.copyfile(bundle / "bench.key", keys / f"{model_id}.key")
    owner = Ed25519PublicKey.from_public_bytes((bundle / "bench.pub").read_bytes())
    (target / "owner.pub").write_bytes(encode_public_key(owner))
    options: dict[str, object] = {
        "--bundle-folder": bundles,
        "--insecure-key-folder": keys,
        "--owner-public-key": target / "owner.pub",
        "--sign-key": target / "sign.pem",
        "--port": free_port(),
        "--inference-threads": threads,
        "--output": target / "image",
        **({"--budget": f"{budget_bytes}B"} if budget_bytes else {}),
    }
    batches = {"--max-batch": max_batch, "--max-delay-us": max_delay_us}
    options |= {name: value for name, value in batches.items() if value is not None}
    words = [str(word) for pair in options.items() for word in pair]
    # Without a policy what is measured asks from this machine alone.
    access = ["--access-policy", str(access_policy)] if access_policy else [OPEN]
    output_of([BUILD, *words, *access], "image for the benchmark")
    return PackedModel(target / "image", folder.model_id, tuple(sorted(served.glob("*.enc"))))


def free_port() -> int:
    """Gives a TCP port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def serving(packed: PackedModel, log: Path) -> Iterator[tuple[RunningImage, Endpoint]]:
    """Runs an image until the block ends.

    Raises:
        ImageBuildError: when it doesn't start.
    """
    with running_image(packed.instance, log) as running:
        trust = Trust(ca_text=running.certificate)
        yield running, Endpoint(f"https://localhost:{running.port}", trust)
