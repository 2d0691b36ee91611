"""What was found about one model, and its form in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Final

from tools.accuracy.evaluation import Evaluation
from tools.accuracy.rungs import ModelReport

JSON_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model.

    Attributes:
        name: of its folder.
        labels: of its classes; empty when it has none or couldn't be read.
        report: of the ladder; None when it couldn't be climbed.
        evaluation: on data; None when none was asked for or it couldn't be made.
        error: why something of it is missing; "" when nothing is.
    """

    name: str
    labels: tuple[str, ...] = ()
    report: ModelReport | None = None
    evaluation: Evaluation | None = None
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything that was asked holds."""
        if self.error or self.report is None or not self.report.passed:
            return False
        return self.evaluation is None or self.evaluation.passed

    def label(self, index: int) -> str:
        """Gives a class's name, or its number where it has none."""
        return self.labels[index] if index < len(self.labels) else str(index)

    def to_json(self) -> dict[str, object]:
        """Gives plain data; tools/README.md describes the fields."""
        found: dict[str, Any] = {"name": self.name, "passed": self.passed}
        if self.error:
            found["error"] = self.error
        if self.report is not None:
            found |= asdict(self.report)
        if self.evaluation is not None:
            found["labels"] = self.labels
            found["evaluation"] = asdict(self.evaluation) | {"passed": self.evaluation.passed}
        return found


def to_json(
    results: Sequence[ModelResult], notes: Sequence[str], *, stopped: bool = False
) -> dict[str, object]:
    """Gives everything as plain data that JSON can carry.

    Args:
        results: one per model that was checked.
        notes: what was passed over.
        stopped: whether the rest wasn't checked, because somebody pressed Ctrl-C.
    """
    content = {
        "format": JSON_FORMAT,
        "passed": not stopped and all(each.passed for each in results),
        "stopped": stopped,
        "notes": list(notes),
        "models": [each.to_json() for each in results],
    }
    found = _finite(content)
    return found if isinstance(found, dict) else {}


def _finite(value: object) -> object:
    """JSON has no infinity; a difference that can't be measured is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
