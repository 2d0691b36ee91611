"""Measures case after case; one that fails, and a Ctrl-C, lose nothing of the others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.errors import ApplianceError
from tools.bench.results import Failure, Result, Row
from tools.command_line import progress

Step = Callable[[], None]
"""Called after each unit of work, for the progress bar."""


@dataclass(frozen=True, slots=True)
class Case:
    """A part of a campaign that succeeds or fails by itself.

    Attributes:
        name: for people.
        steps: how often `measure` calls its step.
        measure: gives the rows.
    """

    name: str
    steps: int
    measure: Callable[[Step], Iterable[Row]]


def run_cases(result: Result, cases: Sequence[Case], *, quiet: bool) -> None:
    """Adds the cases' rows to a result.

    A case that fails becomes an entry of `failures`. A Ctrl-C or SIGTERM ends the campaign and
    marks the result as partial; what was finished stays in it.
    """
    with _sigterm_as_ctrl_c():
        _run_cases(result, cases, quiet=quiet)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Lets servers and scratch folders be cleared away on SIGTERM too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _run_cases(result: Result, cases: Sequence[Case], *, quiet: bool) -> None:
    total = sum(case.steps for case in cases)
    done = 0
    with progress(result.subcommand, total, quiet=quiet) as show:

        def step() -> None:
            nonlocal done
            done += 1
            show(done)

        for number, case in enumerate(cases, 1):
            try:
                result.rows.extend(case.measure(step))
            except (ApplianceError, OSError) as error:
                result.failures.append(Failure(case.name, str(error)))
            except KeyboardInterrupt:
                result.partial = True
                return
            done = sum(each.steps for each in cases[:number])
            show(done)
