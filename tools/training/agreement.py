"""Whether an exported model computes what the trained network computes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.errors import ModelError

TOLERANCE: Final = 1e-4
"""Largest difference of a logit: two libraries add up in another order; measured were 3e-6."""


def check_same(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> None:
    """Compares the logits of torch and of the file.

    Raises:
        ModelError: another shape, or a difference above `TOLERANCE`.
    """
    if expected.shape != actual.shape:
        raise ModelError(
            f"the exported model gives logits of shape {actual.shape}, torch {expected.shape}"
        )
    difference = float(np.abs(expected - actual).max())
    if not difference <= TOLERANCE:  # so that NaN is refused too
        raise ModelError(
            f"a logit of the exported model differs by {difference:.3g} from torch's, "
            f"allowed are {TOLERANCE:.3g}"
        )
