"""Operators that get a partition of their own.

The literature isolates operators that take far longer inside an enclave than
outside. Here it is an option: the memory model tells which operators are large.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from app.errors import InputError
from app.fields import FieldError, Fields, parse_json
from app.manifest import MAX_VALUES
from tools.planner.liveness import Liveness
from tools.planner.summary import GraphSummary

ISOLATE_FORMAT: Final = 1


def read_isolated(path: Path) -> frozenset[str]:
    """Reads the names that `tools/benchmark.py operators` wrote.

    Raises:
        InputError: when the file is missing or isn't such a list.
    """
    try:
        fields = Fields(parse_json(path.read_bytes()), "isolate")
        fields.integer("format", least=ISOLATE_FORMAT, most=ISOLATE_FORMAT)
        fields.text("model")
        fields.number("threshold")
        names = frozenset(fields.texts("operators", most=MAX_VALUES))
        fields.done()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; 'tools/benchmark.py operators' writes it"
        ) from error
    except FieldError as error:
        raise InputError(f"{path}: {error}; 'tools/benchmark.py operators' writes it") from error
    return names


def places(graph: GraphSummary, names: Collection[str]) -> frozenset[int]:
    """Gives the indices of named operators.

    Raises:
        InputError: when the graph that is cut has no such operator.
    """
    missing = sorted(set(names) - {node.name for node in graph.nodes})
    if missing:
        raise InputError(
            f"--isolate: the graph that is cut has no operator {missing[0]!r}, and {len(missing)} "
            "names in all are missing; with '--optimization none' it keeps the model's own"
        )
    return frozenset(index for index, node in enumerate(graph.nodes) if node.name in names)


def isolate(live: Liveness, cuts: Collection[int], isolated: Collection[int]) -> tuple[int, ...]:
    """Adds a cut before and after every isolated operator, where a cut is legal."""
    more = {cut for index in isolated for cut in (index, index + 1)}
    return tuple(sorted({*cuts, *(cut for cut in more if live.may_cut(cut))}))
