"""Figures and the page, from results that were never measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.transforms import Bbox

from tests.unit.tools.bench.results import result
from tools.bench import profile
from tools.bench.attackers import ATTACKS
from tools.bench.criterion import HOLDS
from tools.bench.drawing.album import pictures, save_all
from tools.bench.drawing.picture import Picture, runtime_title
from tools.bench.drawing.report import formatted, write_page
from tools.bench.modes import CACHES, PACKED, PHASES
from tools.bench.peers import ENGINES
from tools.bench.results import Failure, Result, Row
from tools.bench.tenants import PINNED, SHARED
from tools.bench.ways import WAYS
from tools.figures.bench_charts import Drawing
from tools.figures.style import svg_text

SECONDS = (0.010, 0.012, 0.011, 0.050)
MIB = 1 << 20


def modes() -> Result:
    rows = []
    for mode in (*WAYS, PACKED):
        for cache in CACHES:
            runtime = "stand-in-sandbox" if mode == PACKED else "process"
            found = {"runtime": runtime, "partitions": "4", "plan budget": str(5 * MIB)}
            labels = {"model": "m", "mode": mode, "threads": "1", "cache": cache, **found}
            rows.append(Row(labels, "latency", "s", SECONDS))
            if mode != PACKED:
                rows += [Row(labels, phase, "s", SECONDS) for phase in PHASES]
    return result(rows, "modes")


def peers() -> Result:
    rows = [
        Row(
            {"model": model, "threads": "2", "engine": engine},
            "latency",
            "s",
            () if engine == ENGINES[-1] else SECONDS,
            "not available: one thread" if engine == ENGINES[-1] else "",
        )
        for model in ("digits", "a-model-with-a-long-name")
        for engine in ENGINES
    ]
    return result(rows, "peers")


def partitions() -> Result:
    rows = [Row({"model": "m", "threads": "1", "cut": "resident"}, "latency", "s", SECONDS)]
    for kind, places in (("count", (1, 2, 12)), ("budget", (16 * MIB, 512 * MIB))):
        for place in places:
            labels = {"model": "m", "threads": "1", "cut": kind, kind: str(place)}
            rows += [Row(labels, name, "s", SECONDS) for name in ("latency", "wait")]
            for name in ("decrypted", "budget", "resident growth", "accounted"):
                rows.append(Row(labels, name, "bytes", (12.0 * MIB,)))
            rows.append(Row(labels, "growth over time", "bytes", (0.0, 9.0 * MIB), "", (0.0, 0.2)))
    infeasible = {"model": "m", "threads": "1", "cut": "budget", "budget": str(MIB)}
    rows.append(Row(infeasible, "latency", "s", (), "operator 'x' needs 5 MiB"))
    return result(rows, "partitions")


def operators() -> Result:
    rows = []
    for name, kind, ratio in (("c1", "Conv", 2.0), ("r1", "Relu", 20.0), ("s", "Split", None)):
        labels = {"model": "m", "operator": name, "type": kind}
        rows.append(Row({**labels, "engine": "onnxruntime"}, "time", "s", SECONDS))
        times = tuple(each * ratio for each in SECONDS) if ratio else ()
        rows.append(Row({**labels, "engine": "tract"}, "time", "s", times))
        rows.append(Row(labels, "ratio", "", (ratio,) if ratio else ()))
    return result(rows, "operators", threshold="12")


def resources() -> Result:
    labels = {"model": "m", "runtime": "occlum-hw", "plan budget": str(MIB)}
    course = Row(labels, "resident over time", "bytes", (1e8, 1.2e8), "", (0.0, 9.0))
    power = Row({**labels, "window": "1 s"}, "power", "W", (), "not available: no counters")
    return result([course, power], "resources")


def load() -> Result:
    rows = []
    for loop, name, levels in (("closed", "clients", (1, 64)), ("open", "rate", (10.5, 99))):
        for level in levels:
            labels = {"model": "m", "runtime": "occlum-sim", "loop": loop, name: str(level)}
            rows.append(Row(labels, "throughput", "1/s", (100.0, 110.0)))
            rows.append(Row(labels, "errors", "", (0.0, 3.0)))
            rows += [Row(labels, p, "s", (0.01,)) for p in ("p50", "p95", "p99", "max")]
            rows += [Row(labels, phase, "s", (0.002,)) for phase in profile.PHASES]
            rows.append(Row(labels, "batch size", "", (1.0, 7.5)))
    return result(rows, "load")


def tenants() -> Result:
    rows = []
    for cores in (SHARED, PINNED):
        labels = {"model": "m", "threads": "1", "runtime": "occlum-sim", "connections": "64"}
        labels["cores"] = cores
        for when in ("alone", "alone, cores busy", "beside"):
            rows += [Row({**labels, "when": when}, name, "s", SECONDS) for name in ("p50", "p99")]
        rows.append(Row({**labels, "when": "beside"}, "p99 ratio", "", (1.5, 1.9)))
    return result(rows, "tenants")


def attacks() -> Result:
    rows = []
    for attack in ATTACKS:
        labels = {"model": "m", "threads": "1", "runtime": "occlum-sim", "attack": attack.name}
        during = {**labels, "when": "during"}
        for when in ("alone", "alone, cores busy", "during"):
            if (when, attack.name) == ("during", "bombs"):
                continue  # nobody was answered
            found = {**labels, "when": when}
            rows += [Row(found, name, "s", SECONDS) for name in ("p50", "p99")]
        ratios = () if attack.name == "bombs" else (1.5, 12.5)
        rows.append(Row(during, "p99 ratio to busy cores", "", ratios, "no right answer"))
        rows.append(Row(during, HOLDS, "", (float(attack.name != "bombs"),), "5 errors"))
        for name in ("memory before", "memory, most", "memory after"):
            rows.append(Row(during, name, "bytes", (150.0 * MIB, 151.0 * MIB)))
        rows.append(Row(during, "growth from the second round on", "bytes", (-1.0 * MIB,)))
    return result(rows, "attacks")


RESULTS: Mapping[str, Result] = {
    made.subcommand: made
    for made in (
        *(modes(), peers(), partitions(), operators()),
        *(resources(), load(), tenants(), attacks()),
    )
}
COUNTS = {
    **{"modes": 2, "peers": 1, "partitions": 3, "operators": 1},
    **{"resources": 1, "load": 3, "tenants": 1, "attacks": 2},
}


@pytest.fixture(scope="module")
def drawn() -> Mapping[str, list[Picture]]:
    return {name: pictures(found) for name, found in RESULTS.items()}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_has_its_pictures_with_words(
    drawn: Mapping[str, list[Picture]], name: str
) -> None:
    assert len(drawn[name]) == COUNTS[name]
    for picture in drawn[name]:
        assert len(picture.alt) > 30
        assert len(picture.caption) > 60
        assert "runtime: " in svg_text(picture.figure), "on every figure"


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("modes", "packed image: sandbox, no SGX"),
        ("resources", "Occlum, SGX hardware"),
        ("load", "Occlum, simulation mode"),
        ("tenants", "Occlum, simulation mode"),
        ("attacks", "Occlum, simulation mode"),
    ],
)
def test_runtime_is_the_one_that_the_server_named(
    drawn: Mapping[str, list[Picture]], name: str, runtime: str
) -> None:
    assert all(runtime in svg_text(picture.figure) for picture in drawn[name])
    assert runtime_title("") == "runtime not told"


@pytest.mark.parametrize("name", RESULTS)
def test_words_of_a_figure_do_not_overlap_and_lie_inside(
    drawn: Mapping[str, list[Picture]], name: str
) -> None:
    for picture in drawn[name]:
        boxes = text_boxes(picture.figure)
        canvas = picture.figure.bbox
        for text, box in boxes:
            assert box.x0 >= canvas.x0 - 1, text
            assert box.x1 <= canvas.x1 + 1, text
            assert box.y0 >= canvas.y0 - 1, text
            assert box.y1 <= canvas.y1 + 1, text
        for (one, first), (two, second) in combinations(boxes, 2):
            overlap = Bbox.intersection(first, second)
            assert overlap is None or min(overlap.width, overlap.height) < 1, (one, two)


def text_boxes(figure: Drawing) -> list[tuple[str, Bbox]]:
    """Gives the places of titles, labels, ticks and legend."""
    figure.canvas.draw()
    texts = [figure._suptitle] if figure._suptitle else []  # type: ignore[attr-defined]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        texts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]  # type: ignore[attr-defined]
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=False)
        texts += [label for place, label in ticks if low <= place <= high]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return boxes + [("legend", legend.get_window_extent()) for legend in figure.legends]


def test_what_is_missing_is_said_not_drawn_as_nothing(
    drawn: Mapping[str, list[Picture]],
) -> None:
    (picture,) = drawn["peers"]
    assert svg_text(picture.figure).count("not available") == 2


def test_a_criterion_is_in_the_chart_and_in_the_table(
    drawn: Mapping[str, list[Picture]], tmp_path: Path
) -> None:
    latency, _memory = drawn["attacks"]
    text = svg_text(latency.figure)
    assert "(no answer: doesn't hold)" in text
    assert text.count("doesn't hold") == 1
    assert text.count(": holds") == len(ATTACKS) - 1
    assert "not available" in text, "nothing is drawn where nobody was answered"
    assert "doesn't hold: 5 errors" in latency.alt
    write_page(tmp_path / "page.html", [(RESULTS["attacks"], drawn["attacks"])])
    page = (tmp_path / "page.html").read_text()
    assert "What is asked of the appliance under attack." in page
    assert "5 errors" in page


def test_page_holds_everything_and_asks_nobody(tmp_path: Path) -> None:
    failed = modes()
    failed.failures.append(Failure("vgg-19, 1 threads", "the measuring process was killed"))
    failed.partial = True
    shown = [failed, RESULTS["operators"], RESULTS["resources"]]
    albums = [(found, pictures(found)) for found in shown]
    write_page(tmp_path / "page.html", albums)
    text = (tmp_path / "page.html").read_text()
    assert text.count("<img") == sum(COUNTS[found.subcommand] for found in shown)
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", text)
    assert "<script" not in text
    for words in ("vgg-19, 1 threads", "stopped before its end", "not available", "0123456789ab"):
        assert words in text


def test_figures_are_written_twice(tmp_path: Path, drawn: Mapping[str, list[Picture]]) -> None:
    save_all(drawn["load"], tmp_path / "one")
    names = {f"one-{picture.name}.{end}" for picture in drawn["load"] for end in ("png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_nothing_measured_gives_no_picture() -> None:
    assert pictures(result([], "modes")) == []
    assert pictures(result([Row({}, "x", "s", (1.0,))], "runner")) == []


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.5 s"),
        (3 * MIB, "bytes", "3.0 MiB"),
        (-3 * MIB, "bytes", "-3.0 MiB"),
        (7, "", "7"),
    ],
)
def test_numbers_have_units(value: float, unit: str, text: str) -> None:
    assert formatted(value, unit) == text
