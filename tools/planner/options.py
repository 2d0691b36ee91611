"""The ways to cut a graph that a plan is chosen from, and what each of them needs.

How much memory the allocator takes is only known after it was played through, which is
dear. What is live at one moment is a bound on it from below and cheap. So options are looked
at in the order of what they promise, and played through until nothing that is left can be
better than the best one found. The choice is the same as if all had been.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from app.schedule import Stage, batch_bytes, make_schedule
from tools.planner.cost import (
    BYTES_PER_NS,
    PARTITION_NS,
    node_times,
    played_bytes,
    session_bytes,
    thread_bytes,
)
from tools.planner.cuts import candidate_cuts
from tools.planner.isolation import isolate
from tools.planner.liveness import Liveness

Cuts = tuple[int, ...]
_Worth = TypeVar("_Worth", tuple[int, int, Cuts], tuple[int, Cuts])


@dataclass(frozen=True, slots=True)
class Option:
    """One way to cut a graph.

    Attributes:
        cuts: node indices, from 0 to the number of nodes.
        stages: its partitions, for the schedule.
        structures_bytes: everything that is resident beside weights and tensors.
        traffic_bytes: bytes of the batch that live across the cuts, added up.
    """

    cuts: Cuts
    stages: tuple[Stage, ...]
    structures_bytes: int
    traffic_bytes: int

    @property
    def least_bytes(self) -> int:
        """The least memory it runs in: structures, one buffer for weights, working memory."""
        heaviest = max(stage.weights_bytes for stage in self.stages)
        working = max(stage.working_bytes for stage in self.stages)
        return self.structures_bytes + heaviest + working

    def request_ns(self, room_bytes: int, *, overlap: bool) -> int | None:
        """Predicts the time of a batch, None when it doesn't fit."""
        room_bytes -= self.structures_bytes
        schedule = make_schedule(self.stages, room_bytes, overlap=overlap)
        if schedule is None:
            return None
        return round(schedule.request_ns + 2 * self.traffic_bytes / BYTES_PER_NS)


class Options:
    """All ways to cut one graph that are worth a look.

    Args:
        live: the graph, with the workspace of all threads in it.
        threads: of onnxruntime in one run.
        lock_step: requests of one batch.
        isolated: operators that get a partition of their own.
    """

    def __init__(
        self, live: Liveness, threads: int, lock_step: int, isolated: Collection[int] = ()
    ) -> None:
        self._live = live
        self._threads = threads
        self._lock_step = lock_step
        self._times = node_times(live, threads)
        found = (isolate(live, cuts, isolated) for cuts in candidate_cuts(live, lock_step))
        self._promised = [self._promise(cuts) for cuts in dict.fromkeys(found)]
        self._played: dict[Cuts, Option] = {}

    def fastest(self, room_bytes: int, *, overlap: bool) -> Cuts | None:
        """Gives the cuts with the fastest batch inside a room, None when none fit.

        Args:
            room_bytes: the budget without the reader's own memory.
            overlap: whether loading may go on while a partition runs.
        """

        def worth(option: Option) -> tuple[int, Cuts] | None:
            request_ns = option.request_ns(room_bytes, overlap=overlap)
            return None if request_ns is None else (request_ns, option.cuts)

        found = self._best(worth)
        return found[-1] if found else None

    def fewest(self, room_bytes: int) -> Cuts | None:
        """Gives the cuts with the fewest partitions inside a room, None when none fit."""

        def worth(option: Option) -> tuple[int, int, Cuts] | None:
            if option.least_bytes > room_bytes:
                return None
            return len(option.stages), option.traffic_bytes, option.cuts

        found = self._best(worth)
        return found[-1] if found else None

    def weigh(self, cuts: Cuts, room_bytes: int, *, overlap: bool) -> int | None:
        """Predicts a batch's time with given cuts at best, None when they can't fit."""
        return self._promise(cuts).request_ns(room_bytes, overlap=overlap)

    def least_bytes(self) -> int:
        """Gives the smallest room that any of them fits."""
        found = self._best(lambda option: (option.least_bytes, option.cuts))
        if found is None:
            raise RuntimeError("a graph without a way to cut it")
        return found[0]

    def _best(self, worth: Callable[[Option], _Worth | None]) -> _Worth | None:
        promises = _sorted((worth(option), option.cuts) for option in self._promised)
        best: _Worth | None = None
        for promise, cuts in promises:
            if best is not None and best <= promise:
                break
            kept = worth(self._play(cuts))
            if kept is not None and (best is None or kept < best):
                best = kept
        return best

    def _promise(self, cuts: Cuts) -> Option:
        inside = [self._live.activation_bytes(*each) for each in pairwise(cuts)]
        return self._option(cuts, inside)

    def _play(self, cuts: Cuts) -> Option:
        found = self._played.get(cuts)
        if found is None:
            inside = played_bytes(self._live, cuts, self._lock_step)
            found = self._played[cuts] = self._option(cuts, inside)
        return found

    def _option(self, cuts: Cuts, inside: Iterable[int]) -> Option:
        live, several = self._live, self._lock_step
        stages = tuple(
            Stage(
                live.weights_bytes(start, stop),
                batch_bytes(live.crossing_bytes(start), live.crossing_bytes(stop), taken, several),
                several * (sum(self._times[start:stop]) + PARTITION_NS),
            )
            for (start, stop), taken in zip(pairwise(cuts), inside, strict=True)
        )
        structures = sum(session_bytes(*each) for each in pairwise(cuts))
        traffic = several * sum(live.crossing_bytes(cut) for cut in cuts)
        return Option(cuts, stages, structures + thread_bytes(self._threads), traffic)


def _sorted(
    promises: Iterable[tuple[_Worth | None, Cuts]],
) -> list[tuple[_Worth, Cuts]]:
    return sorted((worth, cuts) for worth, cuts in promises if worth is not None)
