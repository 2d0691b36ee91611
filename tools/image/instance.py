"""The instance folder, laid out as Occlum lays out its own.

    Occlum.json               what a person edits
    bom.yaml                  optional; `build` makes image/ from it
    image/                    root file system, packed by `build`
    build/mount/__ROOT        the packed copy; never written again
    build/mount/.ROOT_MAC     its digest
    build/.Occlum_sys.json    configuration as built in
    build/.mrenclave          simulated measurements
    run/mount/__ROOT          writable layer; `build` wipes it

Occlum's own tools keep a signed enclave under build/ as well.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.errors import ImageBuildError

STATUS_FILE = ".__occlum_status"


@dataclass(frozen=True, slots=True)
class Instance:
    """Paths of one instance folder."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Instance:
        """The instance in a folder.

        Raises:
            ImageBuildError: it isn't one.
        """
        if not (folder / STATUS_FILE).is_file():
            raise ImageBuildError(
                str(folder),
                ["isn't an Occlum instance folder; run 'occlum init' in it, or change into one"],
            )
        return cls(folder.resolve())

    @property
    def configuration(self) -> Path:
        """What a person edits."""
        return self.folder / "Occlum.json"

    @property
    def image(self) -> Path:
        """The root file system that `build` packs."""
        return self.folder / "image"

    @property
    def build(self) -> Path:
        """What `build` made."""
        return self.folder / "build"

    @property
    def rootfs(self) -> Path:
        """The packed root file system."""
        return self.build / "mount" / "__ROOT"

    @property
    def layer(self) -> Path:
        """The writable layer."""
        return self.folder / "run" / "mount" / "__ROOT"

    def built_configuration(self) -> dict[str, Any]:
        """The configuration of the last build.

        Raises:
            ImageBuildError: nothing was built yet.
        """
        path = self.build / ".Occlum_sys.json"
        if not path.is_file():
            raise ImageBuildError(str(self.folder), ["isn't built yet; run 'occlum build' in it"])
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the instance alone: one may run or be built at a time.

        Raises:
            ImageBuildError: another process holds it.
        """
        descriptor = os.open(self.folder / STATUS_FILE, os.O_RDWR | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ImageBuildError(
                    str(self.folder), ["is running or being built already; stop that first"]
                ) from error
            yield
        finally:
            os.close(descriptor)
