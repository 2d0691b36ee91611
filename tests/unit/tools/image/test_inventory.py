"""A file that no wheel, no host and no request explains doesn't get into an image unseen."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from packageurl import PackageURL

from tools.image import debian, inventory
from tools.image.debian import DebianPackage, owners
from tools.image.interpreter import install_interpreter
from tools.image.inventory import Inventory, Origin, take_inventory
from tools.image.python_prefix import STANDARD_LIBRARY
from tools.image.sbom import Subject, bill_of_materials

LIBRARY = STANDARD_LIBRARY.name
PACKAGES = f"lib/{LIBRARY}/site-packages"
HOST_FILE = Path("/lib64/ld-linux-x86-64.so.2")


class World:
    """A staged prefix, a stage, and the image that was made of both."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "python-occlum"
        self.stage = folder / "stage"
        self.image = folder / "image"
        self.wheels = folder / "wheels"
        install_interpreter(self.prefix)
        self._package("tool", "1.2", "tool/__init__.py", b"print('tool')\n")
        self._package("cloister", "0.1.0", "app/__init__.py", b"print('app')\n")
        shutil.copyfile(STANDARD_LIBRARY / "json/decoder.py", self._library("json/decoder.py"))
        self._library(
            f"{PACKAGES[len(f'lib/{LIBRARY}/') :]}/tool/__pycache__/__init__.cpython-311.pyc"
        ).touch()
        self._library("json/__pycache__/decoder.cpython-311.pyc").touch()
        (self.stage / "rootfs" / "etc").mkdir(parents=True)
        (self.stage / "rootfs" / "etc" / "config.json").write_text("{}")
        (self.stage / "app").write_text("#!/opt/python-occlum/bin/python3\n")
        self.wheels.mkdir()
        (self.wheels / "tool-1.2-py3-none-any.whl").write_bytes(b"wheel")
        shutil.copytree(self.stage / "rootfs", self.image)
        shutil.copytree(self.prefix, self.image / "opt" / "python-occlum")
        (self.image / "bin").mkdir()
        shutil.copyfile(self.stage / "app", self.image / "bin" / "app")
        (self.image / "lib64").mkdir()
        shutil.copyfile(HOST_FILE, self.image / "lib64" / HOST_FILE.name)

    def _library(self, name: str) -> Path:
        path = self.prefix / "lib" / LIBRARY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _package(self, name: str, version: str, module: str, content: bytes) -> None:
        path = self.prefix / PACKAGES / module
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        notes = self.prefix / PACKAGES / f"{name}-{version}.dist-info"
        notes.mkdir()
        metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
        (notes / "METADATA").write_text(f"{metadata}License-Expression: MIT\n")
        files = {module: path, f"{notes.name}/METADATA": notes / "METADATA"}
        lines = [f"{name},sha256={_noted(file)},1" for name, file in files.items()]
        (notes / "RECORD").write_text("\n".join([*lines, f"{notes.name}/RECORD,,", ""]))

    def inside(self, name: str) -> Path:
        """A file of the Python prefix in the image."""
        return self.image / "opt" / "python-occlum" / name

    def take(self) -> Inventory:
        # The bom leaves these out.
        for record in self.image.rglob("RECORD"):
            record.unlink()
        return take_inventory(self.image, self.prefix, self.stage)


def _noted(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_file_is_explained(world: World) -> None:
    found = world.take()
    assert found.problems == []
    by_path = {entry.path: entry for entry in found.entries}
    assert by_path["/bin/app"].origin is Origin.PROJECT
    assert by_path["/etc/config.json"].origin is Origin.BUILD
    assert by_path["/lib64/ld-linux-x86-64.so.2"].source == str(HOST_FILE)
    prefix = "/opt/python-occlum"
    tool = by_path[f"{prefix}/{PACKAGES}/tool/__init__.py"]
    assert (tool.origin, tool.source) == (Origin.WHEEL, "tool 1.2")
    assert by_path[f"{prefix}/{PACKAGES}/app/__init__.py"].origin is Origin.PROJECT
    assert by_path[f"{prefix}/lib/{LIBRARY}/json/decoder.py"].origin is Origin.HOST
    compiled = by_path[f"{prefix}/{PACKAGES}/tool/__pycache__/__init__.cpython-311.pyc"]
    assert compiled.source == "compiled from tool 1.2"
    lines = found.table().splitlines()
    assert len(lines) == 1 + len(found.entries)
    assert {line.count("\t") for line in lines} == {4}


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"# mine now")


def create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine now")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (append, f"opt/python-occlum/{PACKAGES}/tool/__init__.py"),
        (append, f"opt/python-occlum/{PACKAGES}/app/__init__.py"),
        (append, f"opt/python-occlum/lib/{LIBRARY}/json/decoder.py"),
        (append, "opt/python-occlum/bin/python3"),
        (append, "lib64/ld-linux-x86-64.so.2"),
        (append, "bin/app"),
        (append, "etc/config.json"),
        (create, f"opt/python-occlum/{PACKAGES}/sitecustomize.py"),
        (create, f"opt/python-occlum/{PACKAGES}/mine.pth"),
        (create, f"opt/python-occlum/{PACKAGES}/mine/__pycache__/__init__.cpython-311.pyc"),
        (create, "opt/python-occlum/lib/libpython3.11.so.1.1"),
        (create, "opt/occlum/glibc/lib/libmine.so.1"),
        (create, "etc/ld.so.preload"),
    ],
)
def test_what_nothing_explains_is_a_problem(
    world: World, change: Callable[[Path], None], place: str
) -> None:
    """Somebody changes or adds one file between the sources and the packing."""
    change(world.image / place)
    (problem,) = world.take().problems
    assert problem.startswith(f"/{place} (sha256 ")


def test_debian_names_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package may know a file by its name below /lib, and the caller by that below /usr/lib."""
    search = (
        "diversion by other from: /usr/lib/x86_64-linux-gnu/libz.so.1\n"
        "zlib1g:amd64: /lib/x86_64-linux-gnu/libz.so.1\n"
        "libssl3:amd64, other:amd64: /usr/lib/x86_64-linux-gnu/libssl.so.3\n"
    )
    shown = "zlib1g:amd64\tzlib1g\t1:1.2\tamd64\nlibssl3:amd64\tlibssl3\t3.0\tamd64\n"
    monkeypatch.setattr("tools.image.debian.shutil.which", lambda _: "/usr/bin/dpkg-query")
    monkeypatch.setattr(debian, "shown_of", lambda _: search)
    monkeypatch.setattr(debian, "output_of", lambda *_: shown)
    folder = Path("/usr/lib/x86_64-linux-gnu")
    assert owners([folder / "libz.so.1", folder / "libssl.so.3", folder / "libmine.so"]) == {
        folder / "libz.so.1": DebianPackage("zlib1g", "1:1.2", "amd64"),
        folder / "libssl.so.3": DebianPackage("libssl3", "3.0", "amd64"),
    }


def test_without_dpkg_no_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.image.debian.shutil.which", lambda _: None)
    assert owners([HOST_FILE]) == {}


@pytest.fixture
def bill(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    package = DebianPackage("libc6", "2.36-9+deb12u9", "amd64")
    monkeypatch.setattr(inventory, "owners", lambda paths: dict.fromkeys(paths, package))
    subject = Subject(world.inside(PACKAGES), world.wheels, {"product_id": "1"})
    return bill_of_materials(subject, world.take())


def test_the_bill_of_materials_follows_its_schema(bill: dict[str, Any]) -> None:
    folder = importlib.resources.files("cyclonedx.schema._res")
    names = ("bom-1.6", "spdx", "jsf-0.82")
    schemas = [json.loads((folder / f"{n}.SNAPSHOT.schema.json").read_text()) for n in names]
    # The snapshots name each other by file, and not by the addresses that they go by.
    base = schemas[0]["$id"].rpartition("/")[0]
    registry = jsonschema_rs.Registry(
        [(f"{base}/{n}.SNAPSHOT.schema.json", s) for n, s in zip(names, schemas, strict=True)]
    )
    validator = jsonschema_rs.Draft7Validator(schemas[0], registry=registry, validate_formats=True)
    assert [error.message for error in validator.iter_errors(bill)] == []
    assert [*validator.iter_errors({**bill, "components": [{"name": "no type"}]})]


def test_the_bill_names_what_is_inside(bill: dict[str, Any]) -> None:
    components = {component["bom-ref"]: component for component in bill["components"]}
    assert components["pkg:pypi/tool@1.2"]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(b"wheel").hexdigest()}
    ]
    assert components["pkg:pypi/tool@1.2"]["licenses"] == [{"expression": "MIT"}]
    assert "file:/lib64/ld-linux-x86-64.so.2" in components
    packages = [PackageURL.from_string(c["purl"]) for c in bill["components"] if "purl" in c]
    assert {(p.type, p.name) for p in packages} == {
        ("pypi", "tool"),
        ("generic", "cpython"),
        ("deb", "libc6"),
    }
    assert next(p.version for p in packages if p.type == "deb") == "2.36-9+deb12u9"
    assert bill["metadata"]["component"]["version"] == "0.1.0"
    assert set(bill["dependencies"][0]["dependsOn"]) == set(components)
