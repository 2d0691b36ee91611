"""The bill of materials of an image, in CycloneDX 1.6.

Neither a time nor a random number is in it: the same image has the same bill.
Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.files import file_digest
from tools.image.debian import DebianPackage
from tools.image.inventory import OWN_PACKAGE, Entry, Inventory

SPECIFICATION = "1.6"
APPLIANCE = "cloister-image"
INTERPRETER = "cpython"


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that a bill is about.

    Attributes:
        packages: folder of its installed packages.
        wheels: folder of the wheels that they were installed from.
        measurements: what identifies the built image, by name.
    """

    packages: Path
    wheels: Path
    measurements: Mapping[str, str]


def bill_of_materials(subject: Subject, inventory: Inventory) -> dict[str, Any]:
    """Lists the packages, the interpreter and the host's files of an image.

    Args:
        subject: the image.
        inventory: of its files.
    """
    installed = sorted(distributions(path=[str(subject.packages)]), key=_name)
    own = next((found for found in installed if _name(found) == OWN_PACKAGE), None)
    host = inventory.host_entries()
    components = [
        *(_wheel(found, subject.wheels) for found in installed if found is not own),
        _interpreter(),
        *(_debian(package) for package in sorted({e.package for e in host if e.package})),
        *(_file(entry) for entry in host),
    ]
    appliance: dict[str, Any] = {
        "type": "application",
        "bom-ref": APPLIANCE,
        "name": APPLIANCE,
        "properties": _properties(subject.measurements),
    }
    if own is not None:
        appliance["version"] = own.version
    references = [component["bom-ref"] for component in components]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {"component": appliance},
        "components": components,
        "dependencies": [{"ref": APPLIANCE, "dependsOn": references}],
    }


def _name(found: Distribution) -> str:
    """A package's name as indexes normalise it."""
    return re.sub(r"[-_.]+", "-", found.name).lower()


def _wheel(found: Distribution, wheels: Path) -> dict[str, Any]:
    name = _name(found)
    reference = f"pkg:pypi/{quote(name)}@{quote(found.version)}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": found.version,
        "purl": reference,
        "hashes": [_hash(file_digest(wheel)) for wheel in _files_of(name, found.version, wheels)],
    }
    if "License-Expression" in found.metadata:
        component["licenses"] = [{"expression": found.metadata["License-Expression"]}]
    return component


def _files_of(name: str, version: str, wheels: Path) -> list[Path]:
    """The wheel of a package, told by its file name."""
    found = []
    for path in sorted(wheels.glob("*.whl")):
        distribution, number = path.name.split("-")[:2]
        if (re.sub(r"[-_.]+", "-", distribution).lower(), number) == (name, version):
            found.append(path)
    return found


def _interpreter() -> dict[str, Any]:
    version = platform.python_version()
    reference = f"pkg:generic/{INTERPRETER}@{version}"
    return {
        "type": "platform",
        "bom-ref": reference,
        "name": INTERPRETER,
        "version": version,
        "purl": reference,
        "licenses": [{"license": {"id": "PSF-2.0"}}],
    }


def _debian(package: DebianPackage) -> dict[str, Any]:
    distribution = platform.freedesktop_os_release()["ID"]
    version, architecture = quote(package.version), quote(package.architecture)
    reference = f"pkg:deb/{distribution}/{quote(package.name)}@{version}?arch={architecture}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
        "purl": reference,
    }


def _file(entry: Entry) -> dict[str, Any]:
    facts = {"source": entry.source}
    if entry.package is not None:
        facts["package"] = f"{entry.package.name}={entry.package.version}"
    return {
        "type": "file",
        "bom-ref": f"file:{entry.path}",
        "name": entry.path,
        "hashes": [_hash(entry.digest)],
        "properties": _properties(facts),
    }


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"{OWN_PACKAGE}:{name}", "value": value} for name, value in values.items()]
