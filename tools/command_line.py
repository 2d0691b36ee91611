"""What all command lines share: exit statuses, error lines, progress.

Exit statuses: 0 done or yes, 1 the answer is no (refused, failed, doesn't fit),
2 wrong usage or an input that can't be used, 3 the environment isn't as it must
be, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.errors import (
    ApplianceError,
    ConfigError,
    InputError,
    KeyUnavailableError,
    NotFoundError,
)
from tools.confinement.child import Confinement, confine
from tools.console import say, terminal
from tools.errors import AccessPolicyError, KeyPolicyError, ModelError

DONE = 0
NO = 1
USAGE = 2
ENVIRONMENT = 3
INTERRUPTED = 130
"""As shells report SIGINT: 128 and its number."""

_LINE_BREAK: Final = "\n"
"""Errors of ours may list several problems."""

_UNUSABLE: Final = (
    InputError,
    ModelError,
    NotFoundError,
    ConfigError,
    KeyPolicyError,
    AccessPolicyError,
    KeyUnavailableError,
)
"""What was given can't be used; every other error of ours is a no."""


_NO_MEMORY: Final = ("Failed to allocate memory", "bad_alloc", "bad allocation")


def parser(prog: str, description: str, epilog: str = "") -> ArgumentParser:
    """Makes a parser whose help keeps its line breaks."""
    return ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
    )


def run(command: Callable[[], int], needs: Confinement | None = None) -> int:
    """Runs a command and turns errors into one line on stderr and an exit status.

    Args:
        command: gives the exit status.
        needs: what it keeps when it works on a model that may do harm.
    """
    try:
        if needs is not None:
            confine(needs)
        return command()
    except ApplianceError as error:
        if lacked_memory(error):
            return _no_memory()
        say(f"error: {error}", error=True)
        return USAGE if isinstance(error, _UNUSABLE) else NO
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}", error=True)
        return USAGE if isinstance(error, FileNotFoundError | IsADirectoryError) else ENVIRONMENT
    except MemoryError:
        return _no_memory()
    except KeyboardInterrupt:
        say("stopped", error=True)
        return INTERRUPTED


def lacked_memory(error: ApplianceError) -> bool:
    """Says whether onnxruntime reported that it got no memory, which has no error of its own."""
    return any(sign in str(error) for sign in _NO_MEMORY)


def _no_memory() -> int:
    say("error: the model takes more memory than there is, or --memory-limit allows; nothing was "
          "written", error=True)  # fmt: skip
    return USAGE


@contextmanager
def progress(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Shows a bar with the remaining time on stderr when that is a terminal.

    Yields:
        A function to call with the number of steps done.
    """
    console = terminal(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def phases(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Shows what is being done and for how long on stderr when that is a terminal.

    Yields:
        A function to call with the name of what begins.
    """
    console = terminal(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)
        yield lambda name: bar.update(task, description=name)
