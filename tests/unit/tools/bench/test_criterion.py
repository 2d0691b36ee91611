"""What is asked under attack holds or doesn't, for each reason by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.unit.tools.bench.results import result
from tools.bench.criterion import (
    DURING,
    HEADERS,
    HOLDS,
    KEPT_BYTES,
    Endured,
    Stretch,
    criterion_rows,
    verdicts,
)
from tools.bench.results import Row
from tools.bench.rivals import Heard

MIB = 1 << 20
HEARD = Heard([0.010] * 100)
QUIET = Stretch(HEARD, Heard([0.3]))
RIGHT = Endured(QUIET, Counter({"400": 7}), 100 * MIB, 150 * MIB, 110 * MIB, 0.1)
LABELS = {"model": "m", "attack": "bombs", "when": DURING}


def holds(*endured: Endured) -> Row:
    rows = {row.metric: row for row in criterion_rows(LABELS, [QUIET] * len(endured), endured)}
    return rows[HOLDS]


def heard(latencies: list[float], **errors: int) -> Endured:
    counts = Counter({name.replace("_", " "): count for name, count in errors.items()})
    return replace(RIGHT, stretch=Stretch(Heard(latencies, [], counts), Heard([0.3])))


def test_an_attack_that_nobody_notices() -> None:
    assert holds(RIGHT, RIGHT).samples == (1.0,)
    assert holds(RIGHT, RIGHT).note == ""
    assert holds(heard([0.020] * 100)).samples == (1.0,), "twice is what is asked"


@pytest.mark.parametrize(
    ("endured", "note"),
    [
        ([heard([0.021] * 100)], "p99 is 2.10 times that with busy cores"),
        ([heard([])], "no right answer"),
        ([RIGHT, RIGHT, heard([0.010], status_503=2)], "2 errors"),
        (
            [replace(RIGHT, stretch=Stretch(HEARD, Heard([0.3], [], Counter({"closed": 2}))))],
            "2 of 3 new connections failed",
        ),
        (
            [RIGHT, replace(RIGHT, before_bytes=200 * MIB, after_bytes=132 * MIB + 1)],
            "32.0 MiB of memory kept",
        ),
    ],
)
def test_each_reason_is_named(endured: list[Endured], note: str) -> None:
    row = holds(*endured)
    assert row.samples == (0.0,)
    assert row.note == note


def test_a_round_without_an_answer_is_no_good_round() -> None:
    row = holds(heard([]), heard([]), RIGHT)
    assert row.samples == (0.0,)
    assert row.note == "p99 is inf times that with busy cores"


def test_reasons_add_up() -> None:
    broken = replace(heard([0.05], status_503=1), after_bytes=RIGHT.before_bytes + 2 * KEPT_BYTES)
    assert holds(broken).note.count("; ") == 2


def test_a_line_of_the_table_has_a_cell_for_each_header() -> None:
    answers = Row({**LABELS, "answer": "400"}, "attackers' answers", "", (7.0, 2.0))
    rows = [*criterion_rows(LABELS, [QUIET], [heard([0.05], status_503=3)]), answers]
    for when in ("alone", "alone, cores busy", DURING):
        rows += [Row({**LABELS, "when": when}, name, "s", (0.01,)) for name in ("p50", "p99")]
    (line,) = verdicts(result(rows, "attacks"))
    cells = dict(zip(HEADERS, line, strict=True))
    assert cells["attack"] == "bombs"
    assert cells["p50 / p99 alone"] == "10 / 10 ms"
    assert cells["of them 503"] == "3"
    assert cells["attackers were answered"] == "400: 9"
    assert cells["criterion"].startswith("doesn't hold: p99 is 5.00 times")
    assert verdicts(result([], "attacks")) == []
