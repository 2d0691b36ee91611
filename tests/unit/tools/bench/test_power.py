from __future__ import annotations

from pathlib import Path

import pytest

from tools.bench.power import open_meter

RANGE_UJ = 999_999


def package(root: Path, name: str, energy: str) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(energy)
    return folder / "energy_uj"


def test_packages_add_up_and_their_parts_do_not(tmp_path: Path) -> None:
    first = package(tmp_path, "intel-rapl:0", "100000")
    second = package(tmp_path, "intel-rapl:1", "0")
    part = package(tmp_path, "intel-rapl:0:0", "5")
    meter = open_meter(tmp_path)
    assert meter is not None
    assert meter.joules() == 0.0
    first.write_text("400000")
    second.write_text("200000")
    part.write_text("700000")
    assert meter.joules() == pytest.approx(0.5)


def test_counters_start_again_at_their_range(tmp_path: Path) -> None:
    counter = package(tmp_path, "intel-rapl:0", "900000")
    meter = open_meter(tmp_path)
    assert meter is not None
    for energy, total in (("100000", 0.2), ("600000", 0.7), ("50000", 1.15)):
        counter.write_text(energy)
        assert meter.joules() == pytest.approx(total)


def test_without_readable_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert open_meter(tmp_path / "missing") is None
    package(tmp_path, "intel-rapl:0", "not a number")
    (tmp_path / "dtpm").mkdir()
    assert open_meter(tmp_path) is None
