"""Fuzzes one target, guided by coverage: `python -m tests.fuzz.run --target oip --seconds 60`.

Inputs that reach new code are kept in `build/fuzz/<target>`, so that a later run goes on from
there. The process ends with an error, and leaves the input beside that folder, when a law is
broken, memory grows beyond its bound, or one input takes too long.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Final

import atheris

from tests.fuzz import seeds
from tests.fuzz.mutations import mutated

INSTRUMENTED: Final = ("app", "werkzeug", "PIL")
"""Packages whose coverage guides; all of them parse what a client sends."""

MOST_MIB: Final = 768
"""Of the process: the largest picture takes 192 MiB, the interpreter with its packages 150."""

_TOKEN: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_/-]{1,40}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs until the time is over; never returns."""
    parser = argparse.ArgumentParser(description="Fuzzes one target, guided by coverage.")
    names = sorted(each.name for each in seeds.CORPUS.iterdir())
    parser.add_argument("--target", required=True, choices=names, help="what is fuzzed")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/fuzz"),
        help="where inputs are kept (default: build/fuzz)",
    )
    parser.add_argument("--bytes", type=int, default=4096, help="longest input (default: 4096)")
    given = parser.parse_args(arguments)
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        target = import_module("tests.fuzz.targets").TARGETS[given.target]
        for raw in seeds.read(given.target).values():
            target(raw)  # imports what is imported late: the decoders of pictures
    kept = given.folder / given.target
    kept.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={given.seconds}",
        f"-max_len={given.bytes}",
        f"-rss_limit_mb={MOST_MIB}",
        "-timeout=10",
        "-print_final_stats=1",
        f"-artifact_prefix={kept}-",
        f"-dict={_write_dictionary(given.target, given.folder)}",
    ]
    folders = [str(kept), str(seeds.folder(given.target))]
    atheris.Setup([sys.argv[0], *options, *folders], target, custom_mutator=_mutated)
    atheris.Fuzz()


def _mutated(raw: bytes, most_bytes: int, seed: int) -> bytes:
    """Takes turns: changes that keep the form, and the fuzzer's own, guided by the dictionary."""
    if seed % 2:
        return mutated(raw, Random(seed))[:most_bytes]
    found: bytes = atheris.Mutate(raw, most_bytes)
    return found


def _write_dictionary(target: str, folder: Path) -> Path:
    """Words of the seeds, which mutations put together anew."""
    words = {word for raw in seeds.read(target).values() for word in _TOKEN.findall(raw)}
    path = folder / f"{target}.dict"
    path.write_text("".join(f'"{word.decode()}"\n' for word in sorted(words)), encoding="ascii")
    return path


if __name__ == "__main__":
    main()
