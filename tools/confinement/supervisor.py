"""Waits for the process that works on a model, and says how it ended.

The work goes on in a child that was forked before anything was imported. A model may crash it,
let it run for ever or fill the memory; here that becomes one line and an exit status, and what
was half-written is removed. Ctrl-C, exit statuses and all output are the child's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

_UNUSABLE: Final = 2
_INTERRUPTED: Final = 130
"""See `tools.command_line`, whose libraries aren't wanted in this process."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LONGEST_WAIT_MS: Final = 1_000
"""Until a changed deadline is looked at."""

_LAST_SECONDS: Final = 10.0
"""That a child has after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a child says of itself before it looks at a model.

    Attributes:
        seconds: it may take; None: no limit.
        scratch: its own folder for temporary files; "" for none.
        unfinished: files and folders that it renames when it has succeeded.
        made: folders that were made for them, the innermost first.
    """

    seconds: float | None = None
    scratch: str = ""
    unfinished: Sequence[str] = ()
    made: Sequence[str] = ()


class Channel:
    """The child's end: where it says what it is about to do. There is one in a process."""

    writer: int | None = None

    @classmethod
    def announce(cls, work: Work) -> None:
        """Tells the supervisor; the child does it once."""
        if cls.writer is None:
            return
        with os.fdopen(cls.writer, "w", encoding="utf-8") as pipe:
            json.dump({name: getattr(work, name) for name in Work.__slots__}, pipe)
        cls.writer = None


def is_supervised() -> bool:
    """Says whether somebody waits for this process and hasn't been told of its work yet."""
    return Channel.writer is not None


def supervise() -> None:
    """Returns in a child process; this one waits for it and exits as it does."""
    parent = os.getpid()
    reader, writer = os.pipe()
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Until both have a handler of their own: else a Ctrl-C in between would be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child:
        os.close(writer)
        _leave(_Supervisor(child, reader).wait())
    os.close(reader)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(_UNUSABLE)
    Channel.writer = writer
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _interrupt_once(*_: object) -> None:
    """A terminal sends Ctrl-C to all processes, and the supervisor passes its own on too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Supervisor:
    def __init__(self, child: int, reader: int) -> None:
        self._child = child
        self._reader = reader
        self._work = Work()
        self._stopped = False
        self._interrupts = 0
        self._end: float | None = None

    def wait(self) -> int:
        """Gives the exit status."""
        # Where a shell starts it in the background, no Ctrl-C is meant for it.
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._pass_on)
        signal.signal(signal.SIGTERM, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        late = not self._ended_in_time()
        if late:
            os.kill(self._child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        if status >= 0:
            self._clean()
            return status
        _kill_children()
        self._clean()
        if self._stopped:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if self._interrupts:
            print("stopped", file=sys.stderr)
            return _INTERRUPTED
        print(f"error: {self._reason(-status, late=late)}; nothing was written", file=sys.stderr)
        return _UNUSABLE

    def _ended_in_time(self) -> bool:
        ended = os.pidfd_open(self._child)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        while True:
            left_ms = _LONGEST_WAIT_MS
            if self._end is not None:
                left_ms = min(left_ms, max(0, int((self._end - time.monotonic()) * 1000)))
            events = dict(poll.poll(left_ms))
            if self._reader in events:
                poll.unregister(self._reader)
                self._listen()
            if ended in events:
                return True
            if self._end is not None and time.monotonic() >= self._end:
                return False

    def _listen(self) -> None:
        with os.fdopen(self._reader, "rb") as pipe:
            said = pipe.read()
        if said:
            self._work = Work(**json.loads(said))
            if self._work.seconds is not None:
                self._end = min(self._end or inf, time.monotonic() + self._work.seconds)

    def _reason(self, number: int, *, late: bool) -> str:
        if late:
            return (
                f"the time limit of {self._work.seconds:g} s is over: the model may never end; "
                "--time-limit gives a large one more"
            )
        if number == signal.SIGKILL:
            return "killed; too little memory is the usual reason"
        name = signal.Signals(number).name
        return f"ended by {name}: what was given made a library crash that works on it"

    def _pass_on(self, *_: object) -> None:
        self._interrupts += 1
        # A library that computes doesn't look up; what was found so far needs no longer than this.
        self._end = min(self._end or inf, time.monotonic() + _LAST_SECONDS)
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGINT if self._interrupts == 1 else signal.SIGKILL)

    def _stop(self, *_: object) -> None:
        """The child's end wakes `wait`, which cleans up first."""
        self._stopped = True
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)

    def _clean(self) -> None:
        """Removes temporary files and what was half-written; what succeeded has another name."""
        work = self._work
        for place in map(Path, [*([work.scratch] if work.scratch else []), *work.unfinished]):
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
        for folder in work.made:
            with suppress(OSError):
                Path(folder).rmdir()


def _kill_children() -> None:
    """Ends what the child had started; it is this process's own since the child has ended."""
    place = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        try:
            children = [int(each) for each in place.read_text().split()]
        except OSError:
            return
        if not children:
            return
        for each in children:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(each, 0)
