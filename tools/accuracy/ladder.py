"""The ladder: each rung changes one thing, so the first one that fails says what is wrong.

`tools.accuracy.rungs` lists the rungs and what each of them asks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from app.engine import EngineError
from app.errors import ApplianceError
from app.runner import Reader
from app.tensors import Array
from tools.accuracy.deployment import encrypted_reader, running
from tools.accuracy.difference import Difference, compare
from tools.accuracy.inputs import Case, cases
from tools.accuracy.location import Location, locate, write_cut_graph
from tools.accuracy.readers import FolderReader
from tools.accuracy.remote import Remote, TooLargeError
from tools.accuracy.rungs import RUNGS, TLS, ModelReport, Rung
from tools.accuracy.strays import stray_files
from tools.accuracy.tally import best_class, score_rows
from tools.errors import AccuracyError
from tools.graph.whole import open_whole
from tools.model_folder import ModelFolder, changed_files

TOLERANCE: Final = 1e-4
"""Largest relative difference of the deployed rung; fusions that stop at a cut give about 1e-6."""

Outputs = Mapping[str, Array]


def rung_names(remote: Remote | None) -> tuple[str, ...]:
    """Gives the rungs that `climb` takes."""
    return RUNGS if remote is None else (*RUNGS, TLS)


def climb(
    folder: ModelFolder, step: Callable[[int], None], remote: Remote | None = None
) -> ModelReport:
    """Checks one model rung by rung, up to the first that fails.

    Args:
        folder: the model.
        step: called with the number of rungs done.
        remote: a running appliance that serves the model; None leaves out the last rung.

    Raises:
        ModelError: when the whole model or the samples can't be used.
    """
    return _Ladder(folder, step).climb(remote)


class _Ladder:
    def __init__(self, folder: ModelFolder, step: Callable[[int], None]) -> None:
        self._folder = folder
        self._step = step
        self._cases = cases(folder)
        self._rungs: list[Rung] = []
        self._references = self._run_whole(folder.model_path)
        self._deployed: list[Outputs] = []

    def _run_whole(self, path: Path) -> list[Outputs]:
        if not path.is_file():
            raise AccuracyError(f"{path}: the whole model is missing")
        try:
            whole = open_whole(path, "none")
            return [whole.run(case.inputs) for case in self._cases]
        except EngineError as error:
            raise AccuracyError(f"{path}: the whole model doesn't run: {error}") from error

    def climb(self, remote: Remote | None) -> ModelReport:
        self._check_files()
        with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
            bundle = Path(scratch) / "checked.bundle"
            cut = self._run_whole(write_cut_graph(self._folder, Path(scratch) / "cut.onnx"))
            self._compare("cut", lambda: FolderReader(self._folder), cut, 0.0)
            self._compare("format", lambda: encrypted_reader(self._folder, bundle), cut, 0.0)
            self._compare(
                "deployed",
                lambda: encrypted_reader(self._folder, bundle),
                self._references,
                TOLERANCE,
            )
        if remote is not None:
            self._ask(remote)
        return self._report()

    def _check_files(self) -> None:
        problems = "; ".join(changed_files(self._folder))
        self._add(Rung("files", "as planned", not problems, problem=problems))

    def _compare(
        self,
        name: str,
        make_reader: Callable[[], Reader],
        references: list[Outputs],
        tolerance: float,
    ) -> None:
        criterion = f"relative ≤ {tolerance:g}" if tolerance else "bit-exact"
        if self._has_failed():
            self._add(Rung(name, criterion, None, problem="not reached"))
            return
        try:
            reader = make_reader()
            outputs = self._run(reader, overlap=tolerance > 0)
        except ApplianceError as error:
            self._add(Rung(name, criterion, False, problem=str(error)))
            return
        if tolerance:
            self._deployed = outputs
        rung = _judged(Rung(name, criterion, True), self._cases, references, outputs, tolerance)
        self._add(rung if rung.passed else self._located(rung, reader, tolerance))

    def _has_failed(self) -> bool:
        """Changed files alone don't: partitions may be equal in all but bytes."""
        return any(rung.passed is False for rung in self._rungs[1:])

    def _run(self, reader: Reader, *, overlap: bool) -> list[Outputs]:
        # The cases include batches, which the planned budget was never meant for.
        growth = max(_rows(case) for case in self._cases)
        with running(self._folder, reader, growth=growth, overlap=overlap) as runner:
            return [runner.run(case.inputs).outputs for case in self._cases]

    def _located(self, rung: Rung, reader: Reader, tolerance: float) -> Rung:
        """Adds where the first difference of the first wrong case appears."""
        wrong = next(i for i, each in enumerate(rung.differences) if not each <= tolerance)
        location: Location | None = None
        try:
            location = locate(self._folder, reader, self._cases[wrong].inputs, tolerance)
            place = str(location) if location else (
                "no boundary tensor differs when it runs again: the result isn't deterministic"
            )  # fmt: skip
        except ApplianceError as error:
            place = f"where can't be said: {error}"
        return replace(rung, problem=f"{rung.problem}: {place}", location=location)

    def _ask(self, remote: Remote) -> None:
        criterion = "bit-exact with deployed"
        if self._has_failed():
            self._add(Rung(TLS, criterion, None, problem="not reached"))
            return
        try:
            remote.check_model(self._folder.model_id, self._folder.model_version)
            asked = self._answers(remote)
        except AccuracyError as error:
            self._add(Rung(TLS, criterion, False, problem=str(error)))
            return
        refused = len(self._cases) - len(asked)
        note = f"{refused} inputs are larger than the appliance takes" if refused else ""
        if not asked:
            self._add(Rung(TLS, criterion, False, problem=f"nothing could be asked: {note}"))
            return
        chosen = [self._cases[place] for place in asked]
        expected = [self._deployed[place] for place in asked]
        rung = Rung(TLS, criterion, True, note=note)
        rung = _judged(rung, chosen, expected, list(asked.values()), 0.0)
        if not rung.passed:
            hint = "the appliance may serve other partitions, or run on another class of CPU"
            rung = replace(rung, problem=f"{rung.problem}; {hint}")
        self._add(rung)

    def _answers(self, remote: Remote) -> dict[int, Outputs]:
        """Asks every case that isn't too large; gives the answers by the case's place."""
        found: dict[int, Outputs] = {}
        for place, case in enumerate(self._cases):
            try:
                found[place] = remote.infer(
                    self._folder.model_id, self._folder.model_version, case.inputs
                )
            except TooLargeError:
                continue
        return found

    def _add(self, rung: Rung) -> None:
        self._rungs.append(rung)
        self._step(len(self._rungs))

    def _report(self) -> ModelReport:
        labels = [case.label for case in self._cases]
        return ModelReport(
            name=self._folder.path.name,
            partitions=len(self._folder.plan.partitions),
            rungs=tuple(self._rungs),
            labelled=sum(label is not None for label in labels),
            whole_accuracy=_accuracy(labels, self._references),
            deployed_accuracy=_accuracy(labels, self._deployed),
            notes=tuple(stray_files(self._folder)),
        )


def _judged(
    rung: Rung,
    compared: Sequence[Case],
    references: Sequence[Outputs],
    outputs: Sequence[Outputs],
    tolerance: float,
) -> Rung:
    pairs = list(zip(references, outputs, strict=True))
    differences = [compare(reference, actual) for reference, actual in pairs]
    relative = [_relative(each) for each in differences]
    wrong = [place for place, each in enumerate(relative) if not each <= tolerance]
    problem = ""
    if wrong:
        first = wrong[0]
        problem = (
            f"{len(wrong)} of {len(pairs)} inputs differ, first {compared[first].name!r} in output "
            f"{differences[first].tensor!r} by {differences[first].absolute:.3g}"
        )
    return replace(
        rung,
        passed=not wrong,
        cases=len(pairs),
        absolute=max(each.absolute for each in differences),
        relative=max(each.relative for each in differences),
        differences=tuple(relative),
        top1_agreement=_agreement(pairs),
        problem=problem,
    )


def _relative(difference: Difference) -> float:
    """Other bits of equal numbers, as of the two zeros, are the smallest difference there is."""
    if difference.identical:
        return 0.0
    return difference.relative or float(np.finfo(np.float64).tiny)


def _rows(case: Case) -> int:
    return max((a.shape[0] for a in case.inputs.values() if a.ndim and a.shape[0]), default=1)


def _agreement(pairs: Sequence[tuple[Outputs, Outputs]]) -> float | None:
    agreeing, rows = 0, 0
    for reference, actual in pairs:
        expected, found = _top1(reference), _top1(actual)
        if expected is None or found is None or expected.shape != found.shape:
            return None
        agreeing += int(np.count_nonzero(expected == found))
        rows += expected.size
    return agreeing / rows if rows else None


def _top1(outputs: Outputs) -> Array | None:
    """Gives the best class of each row of the first output, if it has rows of scores."""
    scores = score_rows(next(iter(outputs.values())))
    return None if scores is None else best_class(scores)


def _accuracy(labels: Sequence[int | None], outputs: Sequence[Outputs]) -> float | None:
    right = [
        bool(best is not None and best[0] == label)
        for label, output in zip(labels, outputs, strict=False)
        if label is not None
        for best in [_top1(output)]
    ]
    return sum(right) / len(right) if right else None
