"""All pictures of a result, by its subcommand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.bench.drawing import load, modes, others, rivals, sweep
from tools.bench.drawing.picture import Picture
from tools.bench.results import Result
from tools.figures.style import save

_DRAWERS: Final[Mapping[str, Callable[[Result], Iterator[Picture]]]] = {
    "modes": modes.pictures,
    "partitions": sweep.pictures,
    "peers": others.peers,
    "operators": others.operators,
    "resources": others.resources,
    "load": load.pictures,
    "tenants": rivals.tenants,
    "attacks": rivals.attacks,
}


def pictures(result: Result) -> list[Picture]:
    """Draws all pictures that a result has data for."""
    drawer = _DRAWERS.get(result.subcommand)
    return list(drawer(result)) if drawer and result.rows else []


def save_all(found: list[Picture], path: Path) -> None:
    """Writes PATH-NAME.png and .svg for each picture."""
    for each in found:
        save(each.figure, path.with_name(f"{path.name}-{each.name}"))
