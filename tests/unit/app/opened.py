"""Opens graphs in a process that the kernel lets open no file any more; prints what came of each.

Run as a program with a pickled list of graphs and layouts.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

from app.engine import EngineError, OrtEngine
from tools.confinement import landlock


def main(path: Path) -> None:
    cases = pickle.loads(path.read_bytes())
    # What the libraries load on first use, they load now.
    OrtEngine().open(*cases[0])
    landlock.allow_only({})
    try:
        path.read_bytes()
    except PermissionError:
        results = [_opened(*case) for case in cases]
        print(json.dumps(results))


def _opened(graph: bytes, layout: object) -> str:
    try:
        OrtEngine().open(graph, layout)  # type: ignore[arg-type]
    except EngineError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
