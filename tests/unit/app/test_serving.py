from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import pytest

from app.errors import BusyError, ExecutionError, NotFoundError
from app.limits import MAX_WAITING
from app.tensors import Array
from tests import fakes

INPUTS: dict[str, Array] = {"x": np.zeros((1, 4), np.float32), "count": np.zeros(1, np.int64)}
WATCHDOG_S = 20


@pytest.mark.parametrize(
    ("model_id", "version", "said"),
    [
        ("other", None, "there is no model 'other'"),
        ("sums", "2", "has no version '2'"),
        ("sums", "01", "has no version '01'"),
        ("sums", "", "has no version"),
        ("x" * 500, None, "x{80}'"),
    ],
)
def test_model_that_is_not_served(model_id: str, version: str | None, said: str) -> None:
    catalogue, _ = fakes.catalogue()
    with pytest.raises(NotFoundError, match=said):
        catalogue.find(model_id, version)


def test_model_with_and_without_version() -> None:
    catalogue, _ = fakes.catalogue()
    assert catalogue.find("sums") is catalogue.find("sums", "1")


def test_one_request_at_a_time_and_no_endless_queue() -> None:
    running = threading.Semaphore(0)
    proceed = threading.Event()
    inside: list[int] = []
    most: list[int] = []

    def compute(values: Mapping[str, Array]) -> dict[str, Array]:
        inside.append(1)
        most.append(len(inside))
        running.release()
        assert proceed.wait(WATCHDOG_S)
        inside.pop()
        return fakes.plus_count(values)

    model, reader = fakes.serve("sums", fakes.TENSOR_CARD, compute)
    threads = [threading.Thread(target=model.run, args=[INPUTS]) for _ in range(MAX_WAITING)]
    for thread in threads:
        thread.start()
    assert running.acquire(timeout=WATCHDOG_S)
    # Looking doesn't take a place, as trying would.
    while model._places._value:
        pass
    with pytest.raises(BusyError) as refused:
        model.run(INPUTS)
    proceed.set()
    for thread in threads:
        thread.join(WATCHDOG_S)
    assert refused.value.retry_after_s >= 1
    assert max(most) == 1
    assert reader.events.count(("run", 0)) == MAX_WAITING, "the refused one loaded nothing"
    model.run(INPUTS)


def test_failed_request_gives_its_place_back() -> None:
    def fail(values: Mapping[str, Array]) -> dict[str, Array]:
        raise ZeroDivisionError

    model, _ = fakes.serve("sums", fakes.TENSOR_CARD, fail)
    for _ in range(2 * MAX_WAITING):
        with pytest.raises(ExecutionError):
            model.run(INPUTS)
