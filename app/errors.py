"""Every error the appliance raises on purpose.

    ApplianceError
    ├── ConfigError            start-up only; lists every problem found
    ├── InputError             the client's fault                        400, 413, 415
    │   ├── PayloadTooLargeError                                         413
    │   └── UnsupportedMediaError                                        415
    ├── NotFoundError          no such model, version or route           404
    ├── AuthenticationError    no or wrong credentials                   401
    │   └── ForbiddenError     known, but without the right              403
    ├── BusyError              the queue is full                         503
    ├── BundleError            files on disk                             500, opaque
    │   ├── BundleFormatError
    │   └── BundleIntegrityError   one message whatever failed
    ├── KeyUnavailableError    the model key can't be had                503
    ├── AttestationError       says which check failed and what to do
    └── ExecutionError         partition index and phase                 500, opaque
        ├── MemoryBudgetError
        └── CancelledError     nobody waits for the answer any more     504
            └── DeadlineError  the timeout that the client gave passed

They are translated in two places only: `app.server` turns them into HTTP
statuses, `app.__main__` and the command lines in `tools` into exit statuses.
What a client reads of one is what `client_text` gives, and nothing else: the
texts of most are for the operator and may name files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final


class ApplianceError(Exception):
    """Base of all errors raised on purpose by this project."""


class ConfigError(ApplianceError):
    """The configuration can't be used.

    Attributes:
        problems: every problem found, in the order of the file.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} problem(s):{lines}")


class InputError(ApplianceError):
    """A request or file that the caller has to correct."""


class PayloadTooLargeError(InputError):
    """A body, picture or tensor above its limit, refused before it is allocated."""


class UnsupportedMediaError(InputError):
    """A content type or picture format that isn't served."""


class NotFoundError(ApplianceError):
    """No such model, version or route."""


class AuthenticationError(ApplianceError):
    """No or wrong credentials."""


class ForbiddenError(AuthenticationError):
    """Credentials that hold, without the right to do this."""


class BusyError(ApplianceError):
    """The queue is full.

    Attributes:
        retry_after_s: when another try makes sense, in seconds.
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BundleError(ApplianceError):
    """A bundle on disk can't be used."""


class BundleFormatError(BundleError):
    """Authentic bytes that don't follow the format this version reads."""


class BundleIntegrityError(BundleError):
    """The bundle isn't what its owner signed and encrypted.

    One message whatever failed, so that an attacker learns nothing from it.
    """

    def __init__(self) -> None:
        super().__init__(
            "the bundle failed its integrity check: it was altered, is incomplete, is older than "
            "the configuration allows, or belongs to another key or owner"
        )


class KeyUnavailableError(ApplianceError):
    """The model key can't be had; the message never holds key material."""


class AttestationError(ApplianceError):
    """Evidence was refused or can't be made."""


class ExecutionError(ApplianceError):
    """A partition failed while it was loaded or run.

    Attributes:
        partition: its index.
        phase: "load", "bind" or "run".
    """

    def __init__(self, partition: int, phase: str, reason: str) -> None:
        self.partition = partition
        self.phase = phase
        super().__init__(f"partition {partition}, {phase}: {reason}")


class MemoryBudgetError(ExecutionError):
    """A buffer would exceed the budget; raised before it is allocated."""

    def __init__(self, partition: int, phase: str, required_bytes: int, budget_bytes: int) -> None:
        self.required_bytes = required_bytes
        self.budget_bytes = budget_bytes
        super().__init__(
            partition, phase, f"needs {required_bytes} bytes, the budget is {budget_bytes} bytes"
        )


class CancelledError(ExecutionError):
    """A run was given up between two partitions, because nobody waits for it any more."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition, "run", "cancelled before it started")


class DeadlineError(CancelledError):
    """A request was given up because the timeout that its client gave had passed."""


_SAYS_ITSELF: Final = (
    InputError,
    NotFoundError,
    AuthenticationError,
    BusyError,
    BundleIntegrityError,
)
"""Errors whose own text is for clients: it holds no path and no word of a library. Only modules
that know no path raise them, which a test holds; the last one's text is always the same."""

_SAID_INSTEAD: Final[Mapping[type[ApplianceError], str]] = {
    KeyUnavailableError: "the model's key can't be had",
    BundleError: "the model's bundle can't be used",
    DeadlineError: "the request's timeout passed before its answer was there",
    CancelledError: "the request was given up: its client has left",
    ExecutionError: "the model could not be run",
}
"""What is said of the others; the first that fits counts."""


def client_text(error: BaseException) -> str:
    """Gives what a client may read of an error. The operator finds the rest in the log."""
    if isinstance(error, _SAYS_ITSELF):
        return str(error)
    if isinstance(error, MemoryBudgetError):
        return (
            f"the request needs {error.required_bytes} bytes of model memory, the budget is "
            f"{error.budget_bytes} bytes; send a smaller one"
        )
    return next((text for kind, text in _SAID_INSTEAD.items() if isinstance(error, kind)), _OTHER)


_OTHER: Final = "internal error"
