"""Runs a data set through a reference and through the deployed partitions, and compares.

Examples are read, run and counted a few at a time, so that memory doesn't grow with the data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from app.engine import EngineError, WholeModel
from app.runner import Runner
from app.tensors import Array, widened
from tools.accuracy.data.example import DataSet, Example
from tools.accuracy.deployment import encrypted_reader, running
from tools.accuracy.given import GivenOutput, Tolerance, compare_given
from tools.accuracy.tally import Classification, Tally, score_rows
from tools.errors import AccuracyError
from tools.graph.whole import open_whole
from tools.model_folder import ModelFolder

TOGETHER: Final = 8
"""Examples that share one loading of each partition; each gets what it would get alone."""

SMALLEST_DECADE: Final = -9
"""Differences below 10 to this power are counted as that."""

LARGEST_DECADE: Final = 1
"""Differences from 10 to this power on are counted as that."""

Outputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Criteria:
    """What decides.

    Attributes:
        max_drop: largest observed drop of top-1 that is accepted, as a share; None: any.
        tolerance: for outputs that came with the data.
    """

    max_drop: float | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True, slots=True)
class Distances:
    """How far the partitions' outputs are from the reference's, one number per example.

    The distance is the largest |partitions - reference| of all outputs, divided by the largest
    |reference| of that output.

    Attributes:
        identical: examples without any difference.
        decades: (d, n): n examples have a distance from 10^d to below 10^(d+1).
        largest: of all; infinite when outputs can't be compared.
    """

    identical: int
    decades: tuple[tuple[int, int], ...]
    largest: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a data set told.

    Attributes:
        data, kind: its path, and what it is.
        reference: path of the model compared with.
        examples: how many were run.
        complete: False when it was stopped before the end.
        distances: of the outputs.
        classification: None when the first output isn't scores of classes.
        given: comparisons with outputs that came with the data.
        criteria: what was asked.
        remarks: what was left out of the data.
        problems: why the answer is no; empty when it is yes.
    """

    data: str
    kind: str
    reference: str
    examples: int
    complete: bool
    distances: Distances
    classification: Classification | None
    given: tuple[GivenOutput, ...]
    criteria: Criteria
    remarks: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything that was asked holds, of all examples."""
        return self.complete and not self.problems


def evaluate(
    folder: ModelFolder,
    path: Path,
    data: DataSet,
    reference: Path,
    *,
    criteria: Criteria,
    step: Callable[[int], None],
) -> Evaluation:
    """Evaluates the deployed partitions against a reference.

    Ctrl-C ends it early; what was counted until then is given, marked as incomplete.

    Args:
        folder: the model with its partitions.
        path: of the data.
        data: opened for this model.
        reference: the whole model to compare with; it has the partitions' inputs.
        criteria: what decides.
        step: called with the number of examples done.

    Raises:
        AccuracyError: when the reference doesn't run, or labels don't fit its output.
        InputError: when the data don't fit the model.
    """
    count = _Count(criteria, folder)
    complete = True
    with tempfile.TemporaryDirectory(prefix="cloister-") as scratch:
        whole = _open_reference(reference)
        reader = encrypted_reader(folder, Path(scratch) / "evaluated.bundle")
        with running(folder, reader, lock_step=TOGETHER, overlap=True) as runner:
            try:
                for group in _grouped(data, TOGETHER):
                    _run(group, whole, reference, runner, count)
                    step(count.examples)
            except KeyboardInterrupt:
                complete = False
    return count.result(str(path), data, str(reference), complete=complete)


def _open_reference(path: Path) -> WholeModel:
    if not path.is_file():
        raise AccuracyError(f"{path}: expected an ONNX file to compare with")
    try:
        return open_whole(path, "none")
    except EngineError as error:
        raise AccuracyError(f"{path}: onnxruntime can't open it: {error}") from error


def _run(
    group: Sequence[Example], whole: WholeModel, path: Path, runner: Runner, count: _Count
) -> None:
    results = runner.run_batch([example.inputs for example in group])
    for example, result in zip(group, results, strict=True):
        try:
            expected = whole.run(example.inputs)
        except EngineError as error:
            raise AccuracyError(f"{path}: fails on {example.name}: {error}") from error
        count.add(example, expected, result.outputs)


def _grouped(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    iterator = iter(examples)
    while group := list(islice(iterator, size)):
        yield group


class _Count:
    """What was found until now."""

    def __init__(self, criteria: Criteria, folder: ModelFolder) -> None:
        self.examples = 0
        self._criteria = criteria
        self._output_names = [spec.name for spec in folder.plan.outputs]
        self._tally: Tally | None = None
        self._identical = 0
        self._decades: dict[int, int] = {}
        self._largest = 0.0
        self._given: list[GivenOutput] = []

    def add(self, example: Example, reference: Outputs, partitions: Outputs) -> None:
        self.examples += 1
        if len(reference) != len(partitions):
            raise AccuracyError(
                f"the reference has {len(reference)} outputs, the partitions {len(partitions)}"
            )
        # A reference of another origin may name its outputs otherwise; their order is the same.
        whole = dict(zip(self._output_names, reference.values(), strict=True))
        parts = {name: partitions[name] for name in self._output_names}
        self._add_distance(max(distance(whole[name], parts[name]) for name in whole))
        self._add_classes(example, whole[self._output_names[0]], parts[self._output_names[0]])
        if example.expected is not None:
            for subject, outputs in (("whole model", whole), ("partitions", parts)):
                self._given += compare_given(
                    example.name, subject, example.expected, outputs, self._criteria.tolerance
                )

    def _add_distance(self, found: float) -> None:
        self._largest = max(self._largest, found)
        if found == 0:
            self._identical += 1
            return
        decade = LARGEST_DECADE if np.isinf(found) else int(np.floor(np.log10(found)))
        decade = min(max(decade, SMALLEST_DECADE), LARGEST_DECADE)
        self._decades[decade] = self._decades.get(decade, 0) + 1

    def _add_classes(self, example: Example, whole: Array, parts: Array) -> None:
        one, two = score_rows(whole), score_rows(parts)
        fits = one is not None and two is not None and one.shape == two.shape
        labels = example.labels
        if one is None or two is None or not fits:
            if labels is not None:
                raise AccuracyError(
                    "labels need scores [rows, classes] in the first output; its shape is "
                    f"{list(whole.shape)} in the reference, {list(parts.shape)} in the partitions"
                )
            return
        if labels is not None and (len(labels) != len(one) or labels.max() >= one.shape[1]):
            raise AccuracyError(
                f"{example.name}: labels {labels.tolist()[:3]} don't fit an output of "
                f"{len(one)} rows and {one.shape[1]} classes"
            )
        if self._tally is None:
            self._tally = Tally(one.shape[1])
        self._tally.add(one, two, labels)

    def result(self, path: str, data: DataSet, reference: str, *, complete: bool) -> Evaluation:
        classification = self._tally.result() if self._tally else None
        return Evaluation(
            data=path,
            kind=data.kind,
            reference=reference,
            examples=self.examples,
            complete=complete,
            distances=Distances(
                self._identical, tuple(sorted(self._decades.items())), self._largest
            ),
            classification=classification,
            given=tuple(self._given),
            criteria=self._criteria,
            remarks=tuple(data.remarks),
            problems=tuple(self._problems(classification)),
        )

    def _problems(self, classification: Classification | None) -> Iterator[str]:
        if not self.examples:
            yield "no example could be read"
            return
        for each in self._given:
            if not each.passed:
                yield f"{each.example}, {each.subject}, output {each.tensor!r}: {each.problem}"
        most = self._criteria.max_drop
        if most is None:
            return
        found = classification.drop if classification else None
        if found is None:
            yield "a largest drop is stated, but without labels there is no drop to measure"
        elif found.value > most:
            yield (
                f"top-1 drops by {100 * found.value:.3g} points "
                f"(95 % interval {100 * found.low:.3g} to {100 * found.high:.3g}), "
                f"allowed are {100 * most:.3g}"
            )


def distance(reference: Array, partitions: Array) -> float:
    """Gives the largest difference relative to the largest |reference|.

    Element types may differ, as between a model and its quantised form; infinite when shapes do,
    or one alone isn't finite.
    """
    reference, partitions = widened(reference), widened(partitions)
    kinds = reference.dtype.kind + partitions.dtype.kind
    if reference.shape != partitions.shape or not set(kinds) <= set("fiub"):
        same = reference.shape == partitions.shape and bool(np.array_equal(reference, partitions))
        return 0.0 if same else np.inf
    one, two = reference.astype(np.float64), partitions.astype(np.float64)
    with np.errstate(invalid="ignore"):
        far = np.abs(one - two)
    far = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0.0, far)
    scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0)) or 1.0
    return float(np.nan_to_num(far, nan=np.inf, posinf=np.inf).max(initial=0.0)) / scale
