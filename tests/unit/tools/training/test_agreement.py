from __future__ import annotations

import numpy as np
import pytest

from tools.errors import ModelError
from tools.training.agreement import TOLERANCE, check_same

LOGITS = np.zeros((3, 10), dtype=np.float32)


@pytest.mark.parametrize("difference", [0.0, TOLERANCE / 2, -TOLERANCE / 2])
def test_rounding_is_allowed(difference: float) -> None:
    check_same(LOGITS, LOGITS + np.float32(difference))


@pytest.mark.parametrize("value", [2 * TOLERANCE, -2 * TOLERANCE, np.inf, np.nan])
def test_a_single_wrong_logit_is_refused(value: float) -> None:
    wrong = LOGITS.copy()
    wrong[2, 9] = value
    with pytest.raises(ModelError, match="a logit of the exported model differs by"):
        check_same(LOGITS, wrong)


def test_a_fixed_batch_is_refused() -> None:
    with pytest.raises(ModelError, match=r"shape \(2, 10\), torch \(3, 10\)"):
        check_same(LOGITS, LOGITS[:2])
