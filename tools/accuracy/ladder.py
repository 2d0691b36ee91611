"""The ladder: each rung changes one thing, so the first one that fails says what is wrong.

files      every file is the one the plan was made with
cut        partitions through the runner: bit-exact with the whole graph that was cut
format     the same from an encrypted bundle: bit-exact
deployed   the bundle with loading ahead and pinning, against the whole model as its owner
           has it, optimisations off: within a tolerance

The graph that was cut is the whole model, optimised by onnxruntime where the plan says so.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.bundle import BundleReader, read_manifest
from app.engine import EngineError, OrtEngine, WholeModel
from app.errors import ApplianceError
from app.objects import KEY_BYTES
from app.runner import Reader, Runner
from app.tensors import Array
from tools.accuracy.difference import compare, top1
from tools.accuracy.inputs import Case, cases
from tools.accuracy.location import locate, write_cut_graph
from tools.accuracy.readers import FolderReader
from tools.bundling.writer import BundleKeys, write_bundle
from tools.errors import AccuracyError
from tools.model_folder import ModelFolder, changed_files

TOLERANCE: Final = 1e-4
"""Largest relative difference of the deployed rung; fusions that stop at a cut give about 1e-6."""

RUNGS: Final = ("files", "cut", "format", "deployed")
Outputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Rung:
    """What one rung found.

    Attributes:
        name: one of `RUNGS`.
        criterion: what was asked, in words.
        passed: None when an earlier rung failed, so this one wasn't reached.
        cases: how many inputs were compared.
        absolute, relative: largest differences over all inputs.
        top1_agreement: share of rows with the same best class; None without classes.
        problem: what is wrong and where; "" when it passed.
    """

    name: str
    criterion: str
    passed: bool | None
    cases: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    top1_agreement: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What was found out about one model.

    Attributes:
        name: of its folder.
        partitions: how many it has.
        rungs: all of `RUNGS`, in order.
        labelled: how many labelled pictures there are.
        whole_accuracy, deployed_accuracy: share of them classified right; None when not measured.
    """

    name: str
    partitions: int
    rungs: tuple[Rung, ...]
    labelled: int
    whole_accuracy: float | None
    deployed_accuracy: float | None

    @property
    def passed(self) -> bool:
        """Whether every rung held."""
        return all(rung.passed for rung in self.rungs)


def climb(folder: ModelFolder, step: Callable[[int], None]) -> ModelReport:
    """Checks one model rung by rung, up to the first that fails.

    Args:
        folder: the model.
        step: called with the number of rungs done.

    Raises:
        ModelError: when the whole model or the samples can't be used.
    """
    return _Ladder(folder, step).climb()


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
            whole = WholeModel(path, "none")
            return [whole.run(case.inputs) for case in self._cases]
        except EngineError as error:
            raise AccuracyError(f"{path}: the whole model doesn't run: {error}") from error

    def climb(self) -> ModelReport:
        self._check_files()
        with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
            bundle = Path(scratch) / "checked.bundle"
            cut = self._run_whole(write_cut_graph(self._folder, Path(scratch) / "cut.onnx"))
            self._compare("cut", lambda: FolderReader(self._folder), cut, 0.0)
            self._compare("format", lambda: self._encrypted(bundle), cut, 0.0)
            self._compare("deployed", lambda: self._encrypted(bundle), self._references, TOLERANCE)
        return self._report()

    def _check_files(self) -> None:
        problems = "; ".join(changed_files(self._folder))
        self._add(Rung("files", "as planned", not problems, problem=problems))

    def _encrypted(self, target: Path) -> Reader:
        keys = BundleKeys(secrets.token_bytes(KEY_BYTES), Ed25519PrivateKey.generate())
        write_bundle(self._folder, keys, target, progress=lambda _: None)
        manifest = read_manifest(target, keys.owner.public_key(), minimum_version=1)
        return BundleReader(target, manifest, keys.model_key)

    def _compare(
        self,
        name: str,
        make_reader: Callable[[], Reader],
        references: list[Outputs],
        tolerance: float,
    ) -> None:
        criterion = f"relative ≤ {tolerance:g}" if tolerance else "bit-exact"
        if any(rung.passed is False for rung in self._rungs[1:]):
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
        rung = Rung(name, criterion, True)
        self._add(self._judge(rung, tolerance, reader, references, outputs))

    def _run(self, reader: Reader, *, overlap: bool) -> list[Outputs]:
        plan = self._folder.plan
        # The cases include batches, which the planned budget was never meant for.
        growth = max(_rows(case) for case in self._cases)
        runner = Runner(
            reader,
            OrtEngine(),
            plan.budget_bytes * growth,
            plan.inputs,
            plan.outputs,
            overlap=overlap,
            growth=growth,
        )
        try:
            return [runner.run(case.inputs).outputs for case in self._cases]
        finally:
            runner.close()

    def _judge(
        self,
        rung: Rung,
        tolerance: float,
        reader: Reader,
        references: list[Outputs],
        outputs: list[Outputs],
    ) -> Rung:
        pairs = list(zip(references, outputs, strict=True))
        differences = [compare(reference, actual) for reference, actual in pairs]
        wrong = [
            case
            for case, difference in zip(self._cases, differences, strict=True)
            if not difference.identical and not difference.relative <= tolerance
        ]
        problem = ""
        if wrong:
            place = self._locate(reader, wrong[0], tolerance)
            problem = (
                f"{len(wrong)} of {len(pairs)} inputs differ, first {wrong[0].name!r}: {place}"
            )
        return replace(
            rung,
            passed=not wrong,
            cases=len(pairs),
            absolute=max(each.absolute for each in differences),
            relative=max(each.relative for each in differences),
            top1_agreement=_agreement(pairs),
            problem=problem,
        )

    def _locate(self, reader: Reader, case: Case, tolerance: float) -> str:
        try:
            return locate(self._folder, reader, case.inputs, tolerance)
        except ApplianceError as error:
            return f"where can't be said: {error}"

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
        )


def _rows(case: Case) -> int:
    return max((a.shape[0] for a in case.inputs.values() if a.ndim and a.shape[0]), default=1)


def _agreement(pairs: Sequence[tuple[Outputs, Outputs]]) -> float | None:
    agreeing, rows = 0, 0
    for reference, actual in pairs:
        expected, found = top1(reference), top1(actual)
        if expected is None or found is None or expected.shape != found.shape:
            return None
        agreeing += int(np.count_nonzero(expected == found))
        rows += expected.size
    return agreeing / rows if rows else None


def _accuracy(labels: Sequence[int | None], outputs: Sequence[Outputs]) -> float | None:
    right = [
        bool(best is not None and best[0] == label)
        for label, output in zip(labels, outputs, strict=False)
        if label is not None
        for best in [top1(output)]
    ]
    return sum(right) / len(right) if right else None
