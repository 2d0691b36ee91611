"""Writes, beside a built image, what is in it and where that came from."""

from __future__ import annotations

import json
from pathlib import Path

from tools.files import write_file
from tools.image.instance import Instance
from tools.image.inventory import PYTHON, Inventory, take_inventory
from tools.image.sbom import Subject, bill_of_materials

CONTENTS = "contents.tsv"
"""Every file with its SHA-256, its origin and the Debian package that owns it on this host."""

BILL = "sbom.cdx.json"
"""The bill of materials."""


class Origins:
    """The origins of one build's files: asked for before it is packed, written after."""

    def __init__(self, prefix: Path, wheels: Path) -> None:
        """Args: prefix: the staged Python; wheels: the folder of wheels behind it."""
        self._prefix = prefix
        self._wheels = wheels
        self._inventory = Inventory((), ())

    def problems(self, instance: Instance, image: Path) -> list[str]:
        """Every file of the image that nothing explains."""
        self._inventory = take_inventory(image, self._prefix, instance.folder / "stage")
        return list(self._inventory.problems)

    def write(self, instance: Instance) -> str:
        """Writes the list of files and the bill of materials into the instance's folder.

        Returns:
            A line that says what this host brought into the image.
        """
        write_file(instance.folder / CONTENTS, self._inventory.table().encode())
        # Debian's Python has dist-packages where others have site-packages.
        installed = (instance.image / PYTHON / "lib").glob("python3*/*-packages/*.dist-info")
        packages = next(installed).parent
        metadata = json.loads(instance.configuration.read_text(encoding="utf-8"))["metadata"]
        measurements = {
            "product_id": str(metadata["product_id"]),
            "security_version": str(metadata["version_number"]),
        }
        for name in ("mrenclave", "mrsigner"):
            place = instance.build / f".{name}"
            if place.is_file():
                measurements[f"simulated_{name}"] = place.read_text()
        bill = bill_of_materials(Subject(packages, self._wheels, measurements), self._inventory)
        text = json.dumps(bill, indent=2, ensure_ascii=False) + "\n"
        write_file(instance.folder / BILL, text.encode())
        host = self._inventory.host_entries()
        owned = sorted({f"{e.package.name} {e.package.version}" for e in host if e.package})
        return (
            f"{len(self._inventory.entries)} files, {len(host)} of them this host's, "
            f"from {', '.join(owned) or 'no Debian package'}; all are listed in "
            f"{instance.folder / CONTENTS}, packages in {BILL}"
        )
