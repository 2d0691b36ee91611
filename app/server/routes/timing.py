"""Where the time of an answered request went, as the header `Server-Timing` tells its client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.runner import RunResult

SERVER_TIMING: Final = "Server-Timing"
"""W3C's header: names and milliseconds."""

_NS_PER_MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Moments:
    """When a request came how far, on one monotonic clock in nanoseconds.

    Attributes:
        started: a worker had its body.
        decoded: its tensors were read.
        computed: its outputs were there.
        encoded: its answer was ready to be sent.
    """

    started: int
    decoded: int
    computed: int
    encoded: int


def server_timing(moments: Moments, result: RunResult) -> str:
    """Gives the header's value.

    "wait" is the part of loading weights that the request noticed, "load" all of it: work of
    several threads, most of it hidden behind "run". What "total" has beyond the others is the
    time that the request waited for its turn.
    """
    phases = {
        "total": moments.encoded - moments.started,
        "decode": moments.decoded - moments.started,
        "wait": sum(each.wait_ns for each in result.timings),
        "run": sum(each.run_ns for each in result.timings),
        "encode": moments.encoded - moments.computed,
        "load": sum(each.load_ns for each in result.timings),
    }
    return ", ".join(f"{name};dur={ns / _NS_PER_MS:.4f}" for name, ns in phases.items())
