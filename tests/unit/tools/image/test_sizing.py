"""Sizes add up from what they are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.limits import MAX_LOADED_MODELS, SMALL_BYTES
from app.schedule import LANES
from tools.image.occlum_sizes import format_size, parse_size
from tools.image.sizing import THREAD_STACK_BYTES, derive_sizes

MIB = 1 << 20


@given(st.integers(1, 10**11), st.integers(1, 64), st.integers(1, 64))
def test_the_derivation_adds_up(budget_bytes: int, workers: int, inference: int) -> None:
    sizes = derive_sizes(budget_bytes, workers, inference)
    assert sum(line.amount for line in sizes.memory_lines) == sizes.user_space_bytes
    assert sum(line.amount for line in sizes.thread_lines) == sizes.threads
    assert all(line.reason for line in (*sizes.memory_lines, *sizes.thread_lines))
    written = sizes.resource_limits()
    assert parse_size(written["user_space_size"]) >= sizes.user_space_bytes
    assert written["max_num_of_threads"] == sizes.threads


@given(st.integers(1, 10**11), st.integers(1, 32), st.integers(1, 32))
def test_more_of_anything_never_needs_less(budget_bytes: int, workers: int, inference: int) -> None:
    base = derive_sizes(budget_bytes, workers, inference)
    assert derive_sizes(budget_bytes + MIB, workers, inference).user_space_bytes == (
        base.user_space_bytes + MIB
    )
    for more, decoded_bytes in (
        (derive_sizes(budget_bytes, workers + 1, inference), SMALL_BYTES),
        (derive_sizes(budget_bytes, workers, inference + 1), 0),
    ):
        added = more.threads - base.threads
        assert added >= 1
        assert more.user_space_bytes == (
            base.user_space_bytes + added * THREAD_STACK_BYTES + decoded_bytes
        )


@given(st.integers(1, 40), st.integers(1, 8))
def test_every_loaded_model_has_its_threads(models: int, inference: int) -> None:
    one = derive_sizes(MIB, 4, inference)
    many = derive_sizes(MIB, 4, inference, models=models)
    loaded = min(models, MAX_LOADED_MODELS)
    assert many.threads - one.threads == (loaded - 1) * (LANES - 1)


@pytest.mark.parametrize(
    "text", ["640M", "1.5GB", "64", "", "-1MB", "1 MB", "1mb", "1KiB", 64, None]
)
def test_sizes_that_occlum_does_not_read(text: object) -> None:
    with pytest.raises(ValueError, match="isn't a size"):
        parse_size(text)


@given(st.integers(1, 10**6))
def test_a_written_size_reads_back(size_mib: int) -> None:
    assert parse_size(format_size(size_mib * MIB)) == size_mib * MIB
