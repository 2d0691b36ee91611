"""The onnx package's backend cases: wherever they are cut, the bits stay the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.engine import EngineError, WholeModel, optimize
from tests.backend.cases import Case, collect
from tests.backend.cutting import CutModel
from tests.backend.excluded import DEPENDS_ON_THE_MACHINE, EXCLUDED, Exclusion
from tools.accuracy.difference import compare
from tools.errors import ModelError
from tools.graph.load import load_model, load_optimized
from tools.graph.mapped import read_light
from tools.graph.summary import summarize
from tools.graph.types import computes_in_float16
from tools.graph.version import readable

MOST_PLACES = 1
"""Single cuts tried of each case; the exhaustive test tries all."""


def cut_model(path: Path) -> CutModel:
    """Loads a model as `prepare` does; ordering is left out, it would take most of the time."""
    model = load_model(path)
    summary = summarize(model)
    if computes_in_float16(model):
        target = path.with_name("converted.onnx")
        optimize(read_light(path), path.parent, target, "none")
        model = load_optimized(target, path.parent)
        summary = summarize(model)
    return CutModel(model, summary)


def differences(case: Case, path: Path, most: int | None) -> Iterator[str]:
    """Names every cut that changes a bit; what is too new is said in an older version."""
    content = readable(case.model).SerializeToString()
    path.write_bytes(content)
    expected = WholeModel(content, "none").run(case.inputs)
    cut = cut_model(path)
    for way in [cut.everywhere, *_spread(cut.single_cuts(), most)]:
        if not compare(expected, cut.run(way, case.inputs)).identical:
            yield f"{case.name} cut at {way[1:-1]}"


def _spread(places: Sequence[Any], most: int | None) -> Sequence[Any]:
    """Takes so many, evenly spread, always the same ones."""
    if most is None or len(places) <= most:
        return places
    return [places[(2 * number + 1) * len(places) // (2 * most)] for number in range(most)]


def runnable() -> list[Case]:
    """Gives the cases that have to run."""
    return [case for case in collect() if case.is_exchangeable and not exclusions(case)]


def exclusions(case: Case) -> list[Exclusion]:
    """Gives the reasons for which a case is left out; never more than one."""
    return [each for each in EXCLUDED if each.covers(case.name)]


def test_cuts_change_no_bit(tmp_path: Path) -> None:
    check_all(tmp_path, MOST_PLACES)


@pytest.mark.large
def test_no_single_cut_changes_a_bit(tmp_path: Path) -> None:
    check_all(tmp_path, None)


def check_all(tmp_path: Path, most: int | None) -> None:
    wrong: list[str] = []
    cases = runnable()
    for case in cases:
        try:
            wrong += differences(case, tmp_path / "m.onnx", most)
        except EngineError as error:
            if not DEPENDS_ON_THE_MACHINE.covers(case.name):
                raise
            assert re.search(DEPENDS_ON_THE_MACHINE.said, str(error))
    print(f"{len(cases)} of {len(collect())} cases ran, {len(wrong)} cuts changed a result")
    assert not wrong
    assert len(cases) > 1600, "the onnx package's cases have become fewer"


def test_excluded_cases_fail_for_the_stated_reason(tmp_path: Path) -> None:
    seen: set[str] = set()
    for case in collect():
        found = exclusions(case)
        if not found or not case.is_exchangeable:
            continue
        [exclusion] = found
        seen.add(exclusion.reason)
        with pytest.raises((ModelError, EngineError), match=exclusion.said):
            list(differences(case, tmp_path / "m.onnx", 1))
            pytest.fail(f"{case.name} runs; take it off the list")
    assert seen == {each.reason for each in EXCLUDED}


def test_models_whose_inputs_no_request_can_carry_are_refused(tmp_path: Path) -> None:
    others = [case for case in collect() if not case.is_exchangeable]
    assert len(others) > 150
    for case in others:
        if exclusions(case):
            continue
        path = tmp_path / "m.onnx"
        path.write_bytes(case.model.SerializeToString())
        with pytest.raises(ModelError, match=r"input or output '.*' is of .*; expected"):
            cut_model(path)
