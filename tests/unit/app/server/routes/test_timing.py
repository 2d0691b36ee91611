"""The header `Server-Timing` tells durations, and nothing of what was computed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from app.runner import PartitionTiming, RunResult
from app.server.routes.timing import SERVER_TIMING, server_timing
from tests import served
from tests.unit.app.server.routes.requests import INFER, SHADES, SUMS, picture

MS = 1_000_000
PHASES = ("total", "decode", "wait", "run", "encode", "load")


def test_phases_in_milliseconds() -> None:
    timings = (PartitionTiming(0, 5 * MS, MS, 3 * MS, 1), PartitionTiming(1, 0, 0, MS // 2, 1))
    found = server_timing(
        RunResult({"y": np.ones(3)}, timings, 0),
        total_ns=12 * MS,
        decode_ns=2 * MS,
        encode_ns=MS,
    )
    assert found == (
        "total;dur=0000012.0000, decode;dur=0000002.0000, wait;dur=0000001.0000, "
        "run;dur=0000003.5000, encode;dur=0000001.0000, load;dur=0000005.0000"
    )


@pytest.mark.parametrize("took_ns", [0, 1, 999_999, MS, 1234 * MS, 10**13, 1 << 62])
def test_it_is_as_long_whatever_things_took(took_ns: int) -> None:
    timings = (PartitionTiming(0, took_ns, took_ns, took_ns, 1),)
    value = server_timing(
        RunResult({}, timings, 0), total_ns=took_ns, decode_ns=0, encode_ns=took_ns
    )
    assert len(value) == 140


def test_answers_have_it_and_it_is_numbers_alone() -> None:
    client = served.client(served.models())
    classified = client.post(SHADES, data=picture(), content_type="image/png")
    for answer in (client.post(SUMS, json=INFER), classified):
        parts = answer.headers[SERVER_TIMING].split(", ")
        assert tuple(part.partition(";")[0] for part in parts) == PHASES
        assert all(re.fullmatch(r"[a-z]+;dur=\d{7}\.\d{4}", part) for part in parts)


@pytest.mark.parametrize("path", [SUMS, SHADES, "/v2/models/none/infer"])
def test_refusals_do_not(path: str) -> None:
    answer = served.client(served.models()).post(path, data=b"x")
    assert answer.status_code >= 400
    assert SERVER_TIMING not in answer.headers
