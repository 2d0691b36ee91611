from __future__ import annotations

import pytest

from app.runtime import STAND_IN_VARIABLE, Runtime, detect


@pytest.mark.parametrize(
    ("kernel", "mark", "mode", "expected"),
    [
        ("Occlum", None, "HW", Runtime.OCCLUM_HARDWARE),
        ("Occlum", None, "SIM", Runtime.OCCLUM_SIMULATION),
        ("Linux", "sandbox", "HW", Runtime.STAND_IN_SANDBOX),
        ("Linux", "process", "HW", Runtime.STAND_IN_PROCESS),
        ("Linux", None, "HW", Runtime.PROCESS),
        ("Linux", "nonsense", "HW", Runtime.PROCESS),
    ],
)
def test_runtime(kernel: str, mark: str | None, mode: str, expected: Runtime) -> None:
    environment = {} if mark is None else {STAND_IN_VARIABLE: mark}
    assert detect(kernel, environment, mode) is expected


def test_only_hardware_claims_protection() -> None:
    for runtime in Runtime:
        assert runtime.is_simulation == (runtime is not Runtime.OCCLUM_HARDWARE)
        assert ("SIMULATION" in runtime.banner) == runtime.is_simulation
