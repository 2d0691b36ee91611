"""What the ladder finds, as data.

files      every file is the one the plan was made with
cut        partitions through the runner: bit-exact with the whole graph that was cut
format     the same from an encrypted bundle: bit-exact
deployed   the bundle with loading ahead and pinning, against the whole model as its owner
           has it, optimisations off: within a tolerance
tls        a running appliance, asked through TLS: bit-exact with the rung below

The graph that was cut is the whole model, optimised by onnxruntime where the plan says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tools.accuracy.location import Location

RUNGS: Final = ("files", "cut", "format", "deployed")
TLS: Final = "tls"
"""The last rung; there when an appliance is named."""


@dataclass(frozen=True, slots=True)
class Rung:
    """What one rung found.

    Attributes:
        name: one of `RUNGS`, or `TLS`.
        criterion: what was asked, in words.
        passed: None when an earlier rung failed, so this one wasn't reached.
        cases: how many inputs were compared.
        absolute, relative: largest differences over all inputs.
        differences: the relative difference of each input; 0 when bits are equal.
        top1_agreement: share of rows with the same best class; None without classes.
        problem: what is wrong and where; "" when it passed.
        location: where the first difference appears; None when it passed or that can't be said.
        note: what a reader of the result should know; "" when nothing.
    """

    name: str
    criterion: str
    passed: bool | None
    cases: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    differences: tuple[float, ...] = ()
    top1_agreement: float | None = None
    problem: str = ""
    location: Location | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What was found out about one model.

    Attributes:
        name: of its folder.
        partitions: how many it has.
        rungs: all that were asked for, in order.
        labelled: how many labelled pictures there are.
        whole_accuracy, deployed_accuracy: share of them classified right; None when not measured.
        notes: files in the folder that belong to nothing.
    """

    name: str
    partitions: int
    rungs: tuple[Rung, ...]
    labelled: int
    whole_accuracy: float | None
    deployed_accuracy: float | None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every rung held."""
        return all(rung.passed for rung in self.rungs)
