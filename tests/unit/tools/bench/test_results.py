from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InputError
from tests.unit.tools.bench.results import result, row
from tools.bench.results import Failure, Row, read_result, table_text, write_result

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(
    st.dictionaries(words, words, max_size=3),
    st.lists(st.floats(-1e9, 1e9), max_size=8),
    words,
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    labels: dict[str, str],
    samples: list[float],
    note: str,
) -> None:
    path = tmp_path_factory.mktemp("results") / "one"
    moments = tuple(range(len(samples)))
    written = result([Row(labels, "latency", "s", tuple(samples), note, moments)], rounds="3")
    written.failures.append(Failure("digits", "no memory"))
    written.partial = True
    write_result(written, path)
    assert read_result(path.with_name("one.json")) == written


def test_what_was_not_measured_is_no_number() -> None:
    power = Row({"model": "m"}, "power", "W", (), "not available: no counters")
    lines = list(csv.DictReader(table_text(result([power])).splitlines()))
    assert lines[0]["n"] == "0"
    assert lines[0]["median"] == lines[0]["quartile1"] == "not available"
    assert "no counters" in lines[0]["note"]
    with pytest.raises(ValueError, match="one sample"):
        _ = power.median


def test_every_label_is_a_column() -> None:
    rows = [row("a", 1.0, 2.0, 3.0), Row({"threads": "2"}, "run", "s", (4.0,))]
    lines = list(csv.DictReader(table_text(result(rows)).splitlines()))
    assert [line["mode"] for line in lines] == ["a", ""]
    assert [line["threads"] for line in lines] == ["", "2"]
    assert [float(line["median"]) for line in lines] == [2.0, 4.0]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"unknown": 1},
        {"rows": [{"labels": {}}]},
        {"rows": "none"},
        {"partial": "no"},
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(result([]).to_json() | change))
    with pytest.raises(InputError, match=r"file\.json"):
        read_result(path)


def test_select_wants_all_labels() -> None:
    found = result([row("a", 1.0), row("b", 2.0), row("a", 3.0, metric="run")])
    assert [each.samples for each in found.select("latency", mode="a")] == [(1.0,)]
    assert [each.samples for each in found.select("latency")] == [(1.0,), (2.0,)]


def test_what_was_found_does_not_make_another_row() -> None:
    asked = {"model": "m", "mode": "a"}
    one = Row({**asked, "runtime": "process", "partitions": "4"}, "latency", "s", (1.0,))
    other = Row({**asked, "runtime": "occlum-hw", "partitions": "5"}, "latency", "s", (2.0,))
    assert one.key == other.key
    assert one.key != row("b", 1.0).key
