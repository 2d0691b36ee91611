"""Two builds of one source on one machine give one measurement, whoever builds and wherever."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.image.instances import WATCHDOG_S
from tools.bundling.keys import encode_public_key
from tools.bundling.writer import BundleKeys, write_bundle
from tools.image.building import BUILD
from tools.image.python_prefix import fetch_wheels
from tools.launcher import ROOT
from tools.model_folder import open_folder

MODEL = ROOT / "partitions" / "digits"
BUILDER = """
import os, sys
from pathlib import Path
from tools.image import building, command
os.umask(int(sys.argv[1], 8))
building.BUILD = Path(sys.argv[2])
raise SystemExit(command.main(sys.argv[3:]))
"""


@dataclass(frozen=True)
class Builder:
    """Who builds, and where."""

    place: str
    umask: str
    environment: Mapping[str, str]


BUILDERS = (
    Builder("one", "022", {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"}),
    Builder(
        "another/with a longer name",
        "077",
        {
            "PYTHONHASHSEED": "4711",
            "PYTHONOPTIMIZE": "2",
            "PYTHONPYCACHEPREFIX": "/nowhere",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_NO_CLEAN": "1",
            "PIP_REPORT": "-",
            "SOURCE_DATE_EPOCH": "315532800",
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C",
            "COLUMNS": "40",
        },
    ),
)


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory, sign_key: Path) -> Iterator[list[Path]]:
    """One instance of each builder: own Python prefix, own encryption of the model, own keys."""
    fetch_wheels(BUILD / "wheels", print)
    shared = tmp_path_factory.mktemp("shared")
    owner = Ed25519PrivateKey.generate()
    public = shared / "owner.pub"
    public.write_bytes(encode_public_key(owner.public_key()))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    built = []
    for builder in BUILDERS:
        place = shared / builder.place
        (place / "build").mkdir(parents=True)
        # The wheels are the only thing that comes from a network.
        (place / "build" / "wheels").symlink_to(BUILD / "wheels")
        keys = BundleKeys(os.urandom(32), owner)
        (place / "keys").mkdir()
        (place / "keys" / "digits.key").write_bytes(keys.model_key)
        write_bundle(open_folder(MODEL), keys, place / "mine.bundle", progress=lambda _: None)
        words: list[str | Path] = ["--bundle", place / "mine.bundle", "--owner-public-key", public]
        words += ["--insecure-key-folder", place / "keys", "--insecure-open-access"]
        words += ["--mode", "SIM", "--sign-key", sign_key, "-o", place / "image"]
        done = subprocess.run(
            [sys.executable, "-c", BUILDER, builder.umask, place / "build", *words],
            cwd=ROOT,
            env={**inherited, **builder.environment},
            capture_output=True,
            text=True,
            timeout=4 * WATCHDOG_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        built.append(place / "image")
    yield built
    # With the prefixes they are one and a half gigabytes.
    shutil.rmtree(shared)


def listed(instance: Path) -> dict[str, tuple[str, ...]]:
    """The fields of each line of an instance's contents.tsv, by path."""
    lines = (instance / "contents.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {path: (digest, *others) for digest, path, *others in rows}


def test_builders_agree_on_the_measurement(instances: list[Path]) -> None:
    one, another = (listed(instance) for instance in instances)
    assert {path for path in one if one[path] != another.get(path)} == set()
    assert one == another
    for name in ("build/.mrenclave", "build/mount/.ROOT_MAC", "sbom.cdx.json"):
        assert (instances[0] / name).read_bytes() == (instances[1] / name).read_bytes(), name


def test_their_bundles_differ_and_lie_outside(instances: list[Path]) -> None:
    manifests = [
        (instance / "host/bundles/mine.bundle/manifest.json").read_bytes() for instance in instances
    ]
    assert manifests[0] != manifests[1]
    assert not [path for path in listed(instances[0]) if path.endswith(".enc")]


def test_every_file_has_an_origin(instances: list[Path]) -> None:
    rows = listed(instances[0])
    image = instances[0] / "image"
    files = {p for p in image.rglob("*") if p.is_file() and not p.is_symlink()}
    assert set(rows) == {f"/{path.relative_to(image)}" for path in files}
    assert {origin for _, origin, *_ in rows.values()} == {"wheel", "project", "host", "build"}
    loader = rows["/lib64/ld-linux-x86-64.so.2"]
    assert loader[1] == "host"
    assert all(source.startswith("/") for _, origin, source, _ in rows.values() if origin == "host")


def test_no_module_is_compiled_for_a_time(instances: list[Path]) -> None:
    """Flags 1: told by a hash of its source, which is not looked at."""
    compiled = list((instances[0] / "image").rglob("*.pyc"))
    assert len(compiled) > 500
    assert {path.read_bytes()[4:8] for path in compiled} == {bytes([1, 0, 0, 0])}


def test_what_nobody_opens_is_not_packed(instances: list[Path]) -> None:
    names = {Path(path).name for path in listed(instances[0])}
    assert not [name for name in names if name.startswith("libonnxruntime.so")]
    assert len([name for name in names if name.startswith("libpython")]) <= 1


def test_what_is_measured_names_no_place_of_the_builders(instances: list[Path]) -> None:
    for instance in instances:
        place = os.fsencode(instance.parent)
        image = [path for path in (instance / "image").rglob("*") if path.is_file()]
        assert [path for path in image if place in path.read_bytes()] == []
        measured = (instance / "build" / ".Occlum_sys.json").read_text(encoding="utf-8")
        assert str(instance.parent) not in measured
        assert json.loads(measured)["metadata"]["version_number"] >= 1


def test_the_builders_umask_keeps_their_instance_private(instances: list[Path]) -> None:
    assert instances[1].stat().st_mode & 0o077 == 0
