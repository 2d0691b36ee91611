"""Errors that only occur on a host: planning, building, checking.

    app.errors.ApplianceError
    ├── ModelError             the ONNX file, or what describes it, can't be used
    ├── NoFeasiblePlanError    no plan keeps the budget; names the operator
    ├── AccuracyError          partitions and whole model disagree
    ├── BenchmarkError         a measurement couldn't be taken
    ├── ImageBuildError        the image can't be built; lists every problem
    ├── KeyPolicyError         a key or a policy for keys can't be used
    ├── AccessPolicyError      a change of an access policy can't be made
    └── ServingError           a running appliance isn't reached, isn't trusted, or refused
        └── TrustError         what was given for trusting it can't be used; an InputError too

The command lines turn each of them into an exit status.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import ApplianceError, InputError
from tools.terminal import printable


class ModelError(ApplianceError):
    """A model, or a file that describes it, can't be used; says which file and why."""


class NoFeasiblePlanError(ApplianceError):
    """No way to cut the model fits the budget.

    Attributes:
        node: name of the operator that needs most.
        required_bytes: the smallest budget that would do, in whole hundredths of a MiB.
        budget_bytes: what is allowed.
        reason: why it can't be tiled; "" when it was, or needn't be.
    """

    def __init__(self, node: str, required_bytes: int, budget_bytes: int, reason: str = "") -> None:
        self.node = node
        self.reason = reason
        self.required_bytes = required_bytes
        self.budget_bytes = budget_bytes
        super().__init__(
            f"operator {node!r} needs most: the model runs in {_mib(required_bytes)}, "
            f"the budget is {_mib(budget_bytes)}; raise the budget"
            + (f"; it can't be tiled because {reason}" if reason else "")
        )


class AccuracyError(ApplianceError):
    """The partitions don't compute what the whole model computes."""


class BenchmarkError(ApplianceError):
    """A measurement couldn't be taken."""


class ImageBuildError(ApplianceError):
    """The image can't be built.

    Attributes:
        problems: every problem found.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(f"{source}: {self.problems[0]}")
            return
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} problems:{lines}")


class KeyPolicyError(ApplianceError):
    """A key, or the policy that says who may have it, can't be used."""


class AccessPolicyError(ApplianceError):
    """A change of who may use the appliance can't be made; nothing was written."""


class ServingError(ApplianceError):
    """A running appliance can't be reached, isn't the trusted one, or refused.

    What it says may be the server's words, so it holds nothing that steers a terminal.

    Attributes:
        status: the HTTP status of a refusal; None when there was no answer to trust.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(printable(message))


class TrustError(ServingError, InputError):
    """What says whom to trust, or who asks, can't be used: a file, a fingerprint, a token."""


def _mib(size_bytes: int) -> str:
    return f"{size_bytes} bytes ({size_bytes / (1 << 20):.2f} MiB)"
