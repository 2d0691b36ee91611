from __future__ import annotations

import os
import select
import signal
from multiprocessing import get_context

import pytest

from tools.bench.children import Tell, call_in_child, child, receive
from tools.errors import BenchmarkError


def count(tell: Tell, most: int) -> int:
    for number in range(most):
        tell(number)
    return os.getpid()


def fail(_tell: Tell, message: str) -> None:
    raise BenchmarkError(message)


def break_down(_tell: Tell) -> None:
    raise ValueError("not ours")


def die(_tell: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(tell: Tell) -> None:
    tell(os.getpid())
    signal.pause()


def test_result_and_steps_come_from_another_process() -> None:
    steps: list[int] = []
    assert call_in_child(lambda: steps.append(1), count, 3) != os.getpid()
    assert len(steps) == 3


def test_errors_come_back_as_one_kind() -> None:
    with pytest.raises(BenchmarkError, match=r"^no model$"):
        call_in_child(lambda: None, fail, "no model")
    with pytest.raises(BenchmarkError, match="ValueError: not ours"):
        call_in_child(lambda: None, break_down)


def test_a_killed_child_is_an_error_not_a_hang() -> None:
    with pytest.raises(BenchmarkError, match="was killed"):
        call_in_child(lambda: None, die)


def be_a_parent(tell: Tell) -> None:
    """Starts a grandchild and gets killed before it can end it."""
    with child(wait_for_ever) as messages:
        tell(receive(messages)[1])
        signal.pause()


def test_no_measuring_process_outlives_a_killed_parent() -> None:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    parent = context.Process(target=be_a_parent, args=(sender.send,))
    parent.start()
    grandchild = os.pidfd_open(receiver.recv())
    parent.kill()
    parent.join()
    ended, _, _ = select.select([grandchild], [], [], 30)
    os.close(grandchild)
    assert ended


def test_a_child_ends_with_its_block_and_ignores_ctrl_c() -> None:
    with child(wait_for_ever) as messages:
        _, process_id = receive(messages)
        os.kill(process_id, signal.SIGINT)
        os.kill(process_id, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
