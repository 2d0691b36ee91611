"""What this process runs in, so that no answer claims more protection than there is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

OCCLUM: Final = "Occlum"
"""The kernel's name that `os.uname` gives in Occlum, which answers inside the enclave."""

STAND_IN_VARIABLE: Final = "OCCLUM_STAND_IN"
"""Set by the stand-in for the occlum command, which can't change the kernel's name."""


class Runtime(enum.Enum):
    """Where the appliance runs; the value is what people and clients are shown."""

    OCCLUM_HARDWARE = "occlum-hw"
    OCCLUM_SIMULATION = "occlum-sim"
    STAND_IN_SANDBOX = "stand-in-sandbox"
    STAND_IN_PROCESS = "stand-in-process"
    PROCESS = "process"

    @property
    def is_simulation(self) -> bool:
        """Whether the host can read this process's memory."""
        return self is not Runtime.OCCLUM_HARDWARE

    @property
    def banner(self) -> str:
        """One sentence for the start-up log."""
        if self.is_simulation:
            return f"SIMULATION ({self.value}): no SGX, the host can read models, keys and inputs"
        return f"runtime {self.value}: protection holds only once a client has checked a quote"


def detect(kernel_name: str, environment: Mapping[str, str], sgx_mode: str) -> Runtime:
    """Says what the runtime is.

    Args:
        kernel_name: `os.uname().sysname`.
        environment: the process's environment; in Occlum the host adds nothing to it.
        sgx_mode: "HW" or "SIM", from the measured configuration.
    """
    if kernel_name == OCCLUM:
        return Runtime.OCCLUM_HARDWARE if sgx_mode == "HW" else Runtime.OCCLUM_SIMULATION
    marks = {"sandbox": Runtime.STAND_IN_SANDBOX, "process": Runtime.STAND_IN_PROCESS}
    return marks.get(environment.get(STAND_IN_VARIABLE, ""), Runtime.PROCESS)
