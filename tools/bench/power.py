"""Power by RAPL, through Linux's powercap files.

The counters are of whole processor packages: everything that runs on the machine is in them.
Many machines, virtual ones above all, don't show them; then there is no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")
_PACKAGES: Final = "intel-rapl:[0-9]*"
"""AMD's packages have this name too. Parts of a package have a second colon."""


@dataclass(frozen=True, slots=True)
class _Package:
    counter: Path
    range_uj: int


class PowerMeter:
    """Adds up the energy of all packages; the counters start again at their range."""

    def __init__(self, packages: list[_Package]) -> None:
        self._packages = packages
        self._last = [int(each.counter.read_text()) for each in packages]
        self._total_uj = 0

    def joules(self) -> float:
        """Gives the energy since the meter was made."""
        for place, package in enumerate(self._packages):
            now = int(package.counter.read_text())
            self._total_uj += (now - self._last[place]) % package.range_uj
            self._last[place] = now
        return self._total_uj / 1e6


def open_meter(root: Path = POWERCAP) -> PowerMeter | None:
    """Opens the machine's counters; None when there are none that this user may read."""
    packages = []
    for folder in sorted(root.glob(_PACKAGES)):
        if folder.name.count(":") > 1:
            continue
        try:
            range_uj = int((folder / "max_energy_range_uj").read_text())
            int((folder / "energy_uj").read_text())
        except (OSError, ValueError):
            continue
        packages.append(_Package(folder / "energy_uj", range_uj + 1))
    return PowerMeter(packages) if packages else None
