"""The seeds: small inputs in `corpus` that reach deep; found failures are kept there too."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"


def folder(target: str) -> Path:
    """Gives the folder of a target's seeds."""
    return CORPUS / target


def read(target: str) -> dict[str, bytes]:
    """Gives a target's seeds by file name."""
    return {path.name: path.read_bytes() for path in sorted(folder(target).iterdir())}
