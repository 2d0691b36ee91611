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
    │   ├── BundleReadError        an I/O error, which may pass          503
    │   ├── BundleRefusedError     its owner's, and not accepted         503
    │   └── BundleIntegrityError   one message whatever failed
    ├── KeyUnavailableError    the model key can't be had                503
    ├── AttestationError       says which check failed and what to do
    └── ExecutionError         partition index and phase                 500, opaque
        ├── MemoryBudgetError
        └── CancelledError     nobody waits for the answer any more     504
            └── DeadlineError  the timeout that the client gave passed

They are translated in two places only: `app.server` turns them into HTTP
statuses, `app.__main__` and the command lines in `tools` into exit statuses.
What a client reads of one is its `client_text`, and nothing else: the texts of
most are for the operator and may name files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class ApplianceError(Exception):
    """Base of all errors raised on purpose by this project.

    Its text is for the operator: it may name files and causes.
    """

    @property
    def client_text(self) -> str:
        """What a client is told. Only a kind whose text speaks of nothing else tells that text."""
        return "the model could not be run"


class AnsweredError(ApplianceError):
    """One whose text is written for the client: it holds no path and no word of a library.

    Only modules that know no path raise these with a text of their own, which a test holds.
    """

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return str(self)


class ConfigError(ApplianceError):
    """The configuration can't be used.

    Attributes:
        problems: every problem found, in the order of the file.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{source}: {len(self.problems)} problem(s):{lines}")


class InputError(AnsweredError):
    """A request or file that the caller has to correct."""


class PayloadTooLargeError(InputError):
    """A body, picture or tensor above its limit, refused before it is allocated."""


class UnsupportedMediaError(InputError):
    """A content type or picture format that isn't served."""


class NotFoundError(AnsweredError):
    """No such model, version or route."""


class AuthenticationError(AnsweredError):
    """No or wrong credentials."""


class ForbiddenError(AuthenticationError):
    """Credentials that hold, without the right to do this."""


class BusyError(AnsweredError):
    """The queue is full.

    Attributes:
        retry_after_s: when another try makes sense, in seconds.
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BundleError(ApplianceError):
    """A bundle on disk can't be used."""

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return "the model's bundle can't be used"


class BundleFormatError(BundleError):
    """Authentic bytes that don't follow the format this version reads."""


class BundleReadError(BundleError):
    """A file of a bundle can't be read at the moment, which says nothing of its content.

    Args:
        file: what couldn't be read.
        error: why.
    """

    def __init__(self, file: Path, error: OSError) -> None:
        super().__init__(f"{file}: I/O error {error.errno}: {error.strerror}; try again")

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return "the model's bundle can't be read at the moment"


class BundleRefusedError(AnsweredError, BundleError):
    """A bundle that its owner signed and that isn't accepted; the message says why.

    What it speaks of stands in the manifest, which anybody can read.
    """


class BundleIntegrityError(AnsweredError, BundleError):
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

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return "the model's key can't be had"


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

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return (
            f"the request needs {self.required_bytes} bytes of model memory, the budget is "
            f"{self.budget_bytes} bytes; send a smaller one"
        )


class CancelledError(ExecutionError):
    """A run was given up between two partitions, because nobody waits for it any more."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition, "run", "cancelled before it started")

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return "the request was given up: its client has left"


class DeadlineError(CancelledError):
    """A request was given up because the timeout that its client gave had passed."""

    @property
    def client_text(self) -> str:
        """See `ApplianceError`."""
        return "the request's timeout passed before its answer was there"
