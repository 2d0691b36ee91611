"""The instance folder from which every case of recorded/copy_bom.json copies."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FILES = (
    *("f", "g", "10", "010", "a b", "d/a.c", "d/b.c", "d/sub/y", "d/sub/deep/z", "e/a.c", "e/only"),
    *("sub/f", "private/x", "closed/x", "links/real", "twin/f", "links/s/t"),
)
MODES = {"run.sh": 0o755, "secret": 0o400, "setuid": 0o4755}
LINKS = {
    "to_f": "f",
    "to_d": "d",
    "nowhere": "absent",
    "to_d_absolutely": "@/d",
    "links/in": "real",
    "links/out": "../f",
    "links/out_folder": "../d",
    "links/absolute": "@/f",
    "links/s/up": "../real",
    "links/s/round": "../s/../real",
    "dangling_out/x": "/absent/at/all",
    "dangling_in/x": "absent",
    "cycle/k/l": "../k/..",
}


def make_sources(instance: Path) -> None:
    """Fills a folder; every file has a time of its own but `f` and `twin/f`, which share one."""
    for name in ("d", "private", "closed", "links/s", "dangling_out", "dangling_in", "cycle/k"):
        (instance / name).mkdir(parents=True)
    for name in ("empty", "folder_a.c/a.c"):
        (instance / name).mkdir(parents=True)
    for number, name in enumerate([*FILES, *MODES]):
        path = instance / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text({"twin/f": "t"}.get(name, name))
        path.chmod(MODES.get(name, 0o644))
        os.utime(path, (0, 1_000_000_000 + (number if name not in ("f", "twin/f") else 0)))
    for name, text in LINKS.items():
        (instance / name).symlink_to(text.replace("@", str(instance)))
    (instance / "private").chmod(0o700)
    (instance / "closed").chmod(0o555)


def tree_of(root: Path, instance: Path) -> list[str]:
    """One line for each entry: kind, mode, path, and what a link or file holds."""
    lines = []
    for path in [root, *sorted(root.rglob("*"))]:
        name = path.relative_to(root)
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            lines.append(f"l {name} -> {str(path.readlink()).replace(str(instance), '@')}")
        elif stat.S_ISDIR(status.st_mode):
            lines.append(f"d {stat.S_IMODE(status.st_mode):04o} {name}")
        else:
            lines.append(f"f {stat.S_IMODE(status.st_mode):04o} {name}: {path.read_text()}")
    return lines
