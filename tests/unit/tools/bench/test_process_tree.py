from __future__ import annotations

import os
from itertools import pairwise

import pytest

from tests.unit.tools.bench.test_children import wait_for_ever
from tools.bench.children import child, receive
from tools.bench.process_tree import Sample, descendants, look, watched, windows


def test_a_tree_holds_its_children_and_their_memory() -> None:
    alone = look(os.getpid(), None)
    with child(wait_for_ever) as messages:
        _, process_id = receive(messages)
        assert {os.getpid(), process_id} <= set(descendants(os.getpid()))
        assert descendants(process_id) == [process_id]
        together = look(os.getpid(), None)
    assert together.resident_bytes > alone.resident_bytes
    assert alone.joules is None


def test_a_process_that_is_gone_uses_nothing() -> None:
    with child(wait_for_ever) as messages:
        _, process_id = receive(messages)
    gone = look(process_id, None)
    assert (gone.cpu_s, gone.resident_bytes) == (0, 0)


def test_watching_ends_with_its_block() -> None:
    with watched(os.getpid(), None) as samples:
        sum(range(1000))
    count = len(samples)
    assert count >= 2
    assert samples[0].at_s <= samples[-1].at_s
    assert all(a.cpu_s <= b.cpu_s for a, b in pairwise(samples))


def test_windows_are_full_and_in_their_units() -> None:
    samples = [Sample(t / 2, t / 4, 100 + t, t * 10.0) for t in range(8)]
    found = windows(samples, 1.0)
    assert [each.cores for each in found] == [0.5, 0.5, 0.5]
    assert [each.resident_bytes for each in found] == [102, 104, 106]
    assert [each.watts for each in found] == [20.0, 20.0, 20.0]


def test_without_energy_there_is_no_power() -> None:
    samples = [Sample(float(t), 0.0, 1, None) for t in range(3)]
    assert [each.watts for each in windows(samples, 1.0)] == [None, None]
    assert windows(samples, 10.0) == []


@pytest.mark.parametrize("length_s", [0.3, 1.0, 2.0])
def test_windows_lose_no_processor_time(length_s: float) -> None:
    samples = [Sample(t * 0.25, t * 0.1, 1, None) for t in range(33)]
    found = windows(samples, length_s)
    used = sum(each.cores for each in found) * (8.0 / len(found))
    assert used == pytest.approx(3.2)
