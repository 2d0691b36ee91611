"""Memory as the kernel sees it; limits are tried in processes of their own."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tools.bench.memory import data_bytes, limited, peak_bytes, reset_peak, resident_bytes

MIB = 1 << 20


def hold(size_bytes: int) -> int:
    """Touches memory and gives what the process then had more of."""
    before = resident_bytes()
    held = np.full(size_bytes, 1, dtype=np.uint8)
    return resident_bytes() - before + 0 * int(held[-1])


def untouched(size_bytes: int) -> tuple[int, int]:
    """Gives by how much the two measures grow when memory is only promised."""
    resident, data = resident_bytes(), data_bytes()
    held = np.empty(size_bytes, dtype=np.uint8)
    return resident_bytes() - resident + 0 * held.nbytes, data_bytes() - data


def peak_of(size_bytes: int) -> tuple[int, int]:
    """Gives the peak over the resident size: with memory that came and went, then after a reset."""
    now = resident_bytes()
    hold(size_bytes)
    risen = peak_bytes() - now
    reset_peak()
    return risen, peak_bytes() - now


def under_limit(more_bytes: int, size_bytes: int) -> tuple[str, str]:
    """Holds memory under a limit; gives what held it, and how it ended."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited(more_bytes) as held_by:
        try:
            hold(size_bytes)
            end = "fits"
        except MemoryError:
            end = "refused"
    assert resource.getrlimit(resource.RLIMIT_DATA) == before, "given back"
    hold(size_bytes)
    return held_by, end


@pytest.fixture(scope="module")
def child() -> Iterator[ProcessPoolExecutor]:
    """Runs each call in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        yield pool


def test_resident_memory_is_what_was_touched(child: ProcessPoolExecutor) -> None:
    assert 31 * MIB < child.submit(hold, 32 * MIB).result() < 40 * MIB
    resident, data = child.submit(untouched, 64 * MIB).result()
    assert resident < 8 * MIB
    assert 63 * MIB < data < 72 * MIB


def test_peak_is_remembered_and_can_be_forgotten(child: ProcessPoolExecutor) -> None:
    risen, after = child.submit(peak_of, 64 * MIB).result()
    assert risen > 60 * MIB
    assert after < risen - 50 * MIB


@pytest.mark.parametrize(("size_mib", "end"), [(16, "fits"), (128, "refused")])
def test_limit_without_cgroups_really_holds(
    child: ProcessPoolExecutor, size_mib: int, end: str
) -> None:
    """With RLIMIT_DATA the allocation itself fails; a cgroup would end the process."""
    held_by, found = child.submit(_under_rlimit, 64 * MIB, size_mib * MIB).result()
    assert (held_by, found) == ("RLIMIT_DATA", end)


def _under_rlimit(more_bytes: int, size_bytes: int) -> tuple[str, str]:
    from tools.bench import memory

    memory._CGROUPS = ()  # type: ignore[misc, assignment]
    return under_limit(more_bytes, size_bytes)


def test_limit_of_this_machine_lets_through_what_fits(child: ProcessPoolExecutor) -> None:
    held_by, end = child.submit(under_limit, 128 * MIB, 16 * MIB).result()
    assert held_by in {"cgroup", "RLIMIT_DATA"}
    assert end == "fits"
