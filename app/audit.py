"""What the appliance is, found out at start: shown to the operator and to clients.

It makes no claim of its own. A client believes it only as far as it has verified
the enclave; to everybody else it is the operator's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.config import Config
from app.errors import ConfigError
from app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Audit:
    """What this process is and what weakens it.

    Attributes:
        runtime: what it runs in.
        measurement: the enclave's, in hexadecimal digits, taken from a report; None without one.
        production: whether the configuration asks for production.
        insecure_settings: every setting that is set and weakens security.
    """

    runtime: Runtime
    measurement: str | None = None
    production: bool = False
    insecure_settings: Sequence[str] = ()

    @property
    def banner(self) -> Sequence[str]:
        """Lines for the start."""
        return (
            self.runtime.banner,
            f"measurement {self.measurement or 'none: no report of an enclave'}",
            *(f"INSECURE: {name} is set" for name in self.insecure_settings),
        )

    def describe(self) -> dict[str, object]:
        """Gives the field `audit` of `GET /v2`."""
        return {
            "runtime": self.runtime.value,
            "simulation": self.runtime.is_simulation,
            "measurement": self.measurement,
            "production": self.production,
            "insecure_settings": list(self.insecure_settings),
        }


def audit(
    config: Config,
    runtime: Runtime,
    measurement: str | None = None,
    hardware: Mapping[str, str] | None = None,
) -> Audit:
    """Looks at a configuration in the place where it is used.

    Args:
        config: read and checked.
        runtime: as detected.
        measurement: from a report of the enclave; None where there is no report.
        hardware: further insecure settings, that nobody set but were found, by their names, each
            with what was found and what to do: from `app.aes` and `app.cpu`.

    Raises:
        ConfigError: production was asked for, and a setting is insecure or the host can read this
            process's memory; lists all of them.
    """
    hardware = hardware or {}
    insecure = (*config.insecure_settings(), *hardware)
    found = Audit(runtime, measurement, config.production, insecure)
    problems = [f"{name}: refused in production" for name in config.insecure_settings()]
    problems += [f"{name}: refused in production: {what}" for name, what in hardware.items()]
    if runtime.is_simulation:
        problems.append(f"runtime {runtime.value!r} is a simulation: refused in production")
    if found.production and problems:
        raise ConfigError("self-audit", problems)
    return found
