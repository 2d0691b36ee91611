"""How one budget is divided among models. Pure: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.manifest import PartitionLayout

MOST_REQUESTS: Final = 256
"""Planned requests whose tensors a model may hold at a time: a batch of 64, or one client's tensor
with as many rows; more of a small model's share would lie idle while others have none."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model can do with.

    Attributes:
        least_bytes: structures, one slot for the largest weights, and one planned request.
        most_bytes: structures, all weights, and the tensors of `MOST_REQUESTS` planned requests.
    """

    least_bytes: int
    most_bytes: int


def needs_of(
    layouts: Sequence[PartitionLayout],
    weights_bytes: Sequence[int],
    scratch_bytes: int,
) -> Needs:
    """Adds up what a model needs.

    Args:
        layouts: its partitions.
        weights_bytes: of each.
        scratch_bytes: what its reader holds.
    """
    fixed = scratch_bytes + sum(layout.session_bytes for layout in layouts)
    working = max(layout.boundary_bytes + layout.activation_bytes for layout in layouts)
    after = max(layout.boundary_bytes for layout in layouts)
    return Needs(
        fixed + max(weights_bytes) + working,
        fixed + sum(weights_bytes) + MOST_REQUESTS * (working + after),
    )


def fair_share(total_bytes: int, models: int, needs: Needs) -> int:
    """Gives what a model should get: an equal share, no less than it needs, no more than it uses.

    Args:
        total_bytes: the budget of all models.
        models: how many there are to share it, loaded or not.
        needs: the model's.
    """
    wanted = max(needs.least_bytes, min(needs.most_bytes, total_bytes // models))
    return min(total_bytes, wanted)


def to_unload(
    free_bytes: int, free_places: int, idle_bytes: Iterable[int], least_bytes: int
) -> int | None:
    """Says how many idle models have to go before another one fits.

    Only as many as it can't do without: it streams the weights that don't fit, and the others are
    asked again.

    Args:
        free_bytes: what no model has.
        free_places: models that may be loaded beside those that are.
        idle_bytes: what each idle model has, in the order in which they may go.
        least_bytes: what the other one needs.

    Returns:
        A number of them, from the first; None when all of them wouldn't do.
    """
    freed = 0
    for number, size in enumerate([0, *idle_bytes]):
        freed += size
        if free_bytes + freed >= least_bytes and free_places + number >= 1:
            return number
    return None
