"""Runs measurements in fresh processes, which end with their caller."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from app.errors import ApplianceError
from tools.bench.campaign import Step
from tools.errors import BenchmarkError

Tell = Callable[[object], None]
"""What a child's function is given first: sends a value to its starter."""

P = ParamSpec("P")
T = TypeVar("T")

_TOLD: Final = "told"
_DONE: Final = "done"
_FAILED: Final = "failed"


def call_in_child(
    step: Step, work: Callable[Concatenate[Tell, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Runs a function of a module in a fresh process and gives what it returns.

    Args:
        step: called here whenever the function tells something.
        work: the function; arguments and result are pickled.
        *args: its further arguments.
        **kwargs: its further arguments by name.

    Raises:
        BenchmarkError: when it raised, or its process was killed.
    """
    with child(work, *args, **kwargs) as messages:
        while True:
            kind, value = receive(messages)
            if kind == _DONE:
                found: T = value
                return found
            step()


@contextmanager
def child(
    work: Callable[Concatenate[Tell, P], object], *args: P.args, **kwargs: P.kwargs
) -> Iterator[Connection]:
    """Starts a function in a fresh process, which is killed when the block ends.

    Yields:
        Where the function's messages come from; see `receive`.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, work, args, kwargs), daemon=True)
    with receiver, started(process):
        sender.close()
        yield receiver


@contextmanager
def started(process: BaseProcess) -> Iterator[None]:
    """Starts a process that no Ctrl-C interrupts, and kills it when the block ends.

    A Ctrl-C reaches the whole process group, and a child would print a traceback for it, even
    while it still imports. Here only the starter gets it, at the latest when the child is there.
    """
    try:
        with _deaf_to_ctrl_c():
            process.start()
        yield
    finally:
        if process.pid is not None:
            process.kill()
            process.join()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Lets what starts in the block never hear a Ctrl-C, and this process at the block's end."""
    resource_tracker.ensure_running()  # started in the block, it would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        with _ctrl_c_held_back():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Another thread may get the signal, whatever is blocked here, and interrupt the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    old = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
        if came:
            signal.raise_signal(signal.SIGINT)


def receive(messages: Connection) -> tuple[str, Any]:
    """Waits for a child's next message.

    Raises:
        BenchmarkError: when it reports an error or is gone.
    """
    try:
        kind, value = messages.recv()
    except EOFError as error:
        raise BenchmarkError(
            "the measuring process was killed; too little memory is the usual reason"
        ) from error
    if kind == _FAILED:
        raise BenchmarkError(value)
    return kind, value


def _end_with_parent() -> None:
    """Ends this process when its parent was killed and can't do it any more."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(
    sender: Connection,
    work: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        sender.send((_DONE, work(lambda value: sender.send((_TOLD, value)), *args, **kwargs)))
    except ApplianceError as error:
        sender.send((_FAILED, str(error)))
    except Exception as error:  # a library's, which would be lost with this process
        sender.send((_FAILED, f"{type(error).__name__}: {error}"))
