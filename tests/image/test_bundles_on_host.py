"""A bundle on the host: the instance can be moved, and the host can only take the model away.

What the host can put in its place is what the measured configuration allows: the owner's bundles of
that model, from the oldest version on that the build named.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.image.instances import occlum
from tools.bench.packed import free_port
from tools.bundling.keys import encode_public_key
from tools.bundling.writer import BundleKeys, write_bundle
from tools.errors import ImageBuildError
from tools.image.appliance import running_image
from tools.image.processes import output_of
from tools.launcher import ROOT
from tools.model_folder import open_folder
from tools.serving_client.client import ServingClient
from tools.serving_client.trust import Trust

BUILD = ROOT / "occlum_image" / "build.sh"
PICTURE = next(iter(sorted((ROOT / "partitions" / "digits" / "samples").glob("*.png"))))
OTHER_NAME = "renamed.bundle"


def write(keys: BundleKeys, target: Path, version: int = 2) -> Path:
    folder = replace(open_folder(ROOT / "partitions" / "digits"), model_version=version)
    write_bundle(folder, keys, target, progress=lambda _: None)
    return target


class Appliance:
    """A built instance, and what its owner and the host have."""

    def __init__(self, folder: Path, sign_key: Path) -> None:
        self.folder = folder
        self.keys = BundleKeys(os.urandom(32), Ed25519PrivateKey.generate())
        self.instance = folder / "image"
        (folder / "keys").mkdir()
        (folder / "keys" / "digits.key").write_bytes(self.keys.model_key)
        (folder / "owner.pub").write_bytes(encode_public_key(self.keys.owner.public_key()))
        words: list[str | Path] = [
            *("--bundle", write(self.keys, folder / "mine.bundle")),
            *("--owner-public-key", folder / "owner.pub"),
            *("--insecure-key-folder", folder / "keys", "--insecure-open-access"),
            *("--mode", "SIM", "--sign-key", sign_key, "--port", str(free_port())),
            *("-o", self.instance),
        ]
        self.said = output_of([BUILD, *words], "image for the tests")

    @property
    def bundles(self) -> Path:
        return self.instance / "host" / "bundles"


@pytest.fixture(scope="module")
def built_appliance(
    tmp_path_factory: pytest.TempPathFactory, sign_key: Path
) -> Iterator[Appliance]:
    built = Appliance(tmp_path_factory.mktemp("appliance"), sign_key)
    yield built
    # An image and its packed copy are half a gigabyte.
    shutil.rmtree(built.instance, ignore_errors=True)


@pytest.fixture
def appliance(built_appliance: Appliance) -> Iterator[Appliance]:
    """The same one for every test, with the folder of the host as it was built."""
    kept = built_appliance.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(built_appliance.bundles, kept)
    yield built_appliance
    shutil.rmtree(built_appliance.bundles)
    shutil.copytree(kept, built_appliance.bundles)


@contextmanager
def running(instance: Path, log: Path) -> Iterator[ServingClient]:
    with (
        running_image(instance, log) as image,
        ServingClient(
            f"https://localhost:{image.port}", Trust(ca_text=image.certificate)
        ) as client,
    ):
        yield client


@pytest.mark.usefixtures("sandbox")
def test_a_moved_instance_serves_its_bundle(appliance: Appliance, tmp_path: Path) -> None:
    assert f"on the host, in {appliance.bundles}" in appliance.said
    place = tmp_path / "elsewhere" / "renamed"
    place.parent.mkdir()
    source = appliance.folder / "mine.bundle"
    hidden = source.rename(source.with_name("hidden"))
    # Nothing of the place where it was built is there any more.
    appliance.instance.rename(place)
    try:
        with running(place, tmp_path / "log") as client:
            answer = client.classify("digits", PICTURE.read_bytes(), top_k=1)
            assert len(answer.labels) == 1
    finally:
        place.rename(appliance.instance)
        hidden.rename(source)


def another_owner(appliance: Appliance) -> None:
    """With the model's key, but not with the owner's."""
    keys = replace(appliance.keys, owner=Ed25519PrivateKey.generate())
    shutil.rmtree(appliance.bundles / "mine.bundle")
    write(keys, appliance.bundles / "mine.bundle", version=9)


def an_older_version(appliance: Appliance) -> None:
    shutil.rmtree(appliance.bundles / "mine.bundle")
    write(appliance.keys, appliance.bundles / OTHER_NAME, version=1)


def another_key(appliance: Appliance) -> None:
    """The owner's manifest over objects that the host encrypted."""
    forged = write(replace(appliance.keys, model_key=os.urandom(32)), appliance.folder / "forged")
    shutil.copy(appliance.bundles / "mine.bundle" / "manifest.json", forged)
    shutil.rmtree(appliance.bundles / "mine.bundle")
    forged.rename(appliance.bundles / "mine.bundle")


def one_bit(appliance: Appliance) -> None:
    victim = max((appliance.bundles / "mine.bundle").rglob("*.enc"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


def a_part_less(appliance: Appliance) -> None:
    max((appliance.bundles / "mine.bundle").rglob("*.enc")).unlink()


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    "swap", [another_owner, an_older_version, another_key, one_bit, a_part_less]
)
def test_a_host_that_swaps_the_bundle_gets_no_answer(
    appliance: Appliance, swap: Callable[[Appliance], None], tmp_path: Path
) -> None:
    swap(appliance)
    with (
        pytest.raises(ImageBuildError, match="it ended before it was ready") as ended,
        running(appliance.instance, tmp_path / "log"),
    ):
        pass
    assert "Traceback" not in str(ended.value)


@pytest.mark.usefixtures("sandbox")
def test_a_newer_version_of_the_owner_is_served(appliance: Appliance, tmp_path: Path) -> None:
    write(appliance.keys, appliance.bundles / "newer.bundle", version=3)
    with running(appliance.instance, tmp_path / "log") as client:
        assert client.metadata("digits")["versions"] == ["2", "3"]


@pytest.mark.usefixtures("sandbox")
def test_a_host_can_take_the_model_away(appliance: Appliance, tmp_path: Path) -> None:
    shutil.rmtree(appliance.bundles / "mine.bundle")
    with running(appliance.instance, tmp_path / "log") as client:
        assert not client.is_ready("digits")


@pytest.mark.usefixtures("sandbox")
def test_a_folder_that_is_gone_is_named(appliance: Appliance) -> None:
    away = appliance.instance / "away"
    appliance.bundles.rename(away)
    try:
        ended = occlum(appliance.instance, "run", "/bin/app")
    finally:
        away.rename(appliance.bundles)
    assert ended.status == 1
    assert "host/bundles, seen at /host/bundles, doesn't exist" in ended.err
