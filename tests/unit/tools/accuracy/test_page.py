"""The page tells what the terminal tells, with figures."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from tools.accuracy.evaluation import Criteria, Distances, Evaluation
from tools.accuracy.given import GivenOutput
from tools.accuracy.page import build_page
from tools.accuracy.results import ModelResult, to_json
from tools.accuracy.rungs import ModelReport, Rung
from tools.accuracy.tally import Tally
from tools.accuracy.terminal import print_result
from tools.accuracy.wording import findings, weakest

LABELS = ("cat [red]", "dog <b>", "cow & calf")


def tally(classes: int) -> Tally:
    made = Tally(classes)
    labels = np.arange(3 * classes) % classes
    scores = np.eye(classes)[labels]
    wrong = np.eye(classes)[(labels + (np.arange(len(labels)) < 2)) % classes]
    made.add(scores, wrong, labels)
    return made


def evaluation(classes: int = 3, max_drop: float | None = None) -> Evaluation:
    return Evaluation(
        data="pictures/",
        kind="pictures by class",
        reference="model.onnx",
        examples=3 * classes,
        complete=True,
        distances=Distances(3, ((-7, 5), (-6, 1)), 2e-6),
        classification=tally(classes).result(),
        given=(),
        criteria=Criteria(max_drop),
        remarks=("a/bad.png is skipped: broken",),
        problems=(),
    )


REPORT = ModelReport(
    "shapes",
    3,
    (
        Rung("files", "as planned", True),
        Rung("cut", "bit-exact", True, 2, 0.0, 0.0, (0.0, 0.0), 1.0),
        Rung("deployed", "relative ≤ 0.0001", False, 2, np.inf, np.inf, (0.0, np.inf), 0.5, "bad"),
    ),
    2,
    1.0,
    0.5,
    ("not part of the plan, nothing reads it: 007.onnx",),
)
RESULT = ModelResult("shapes", LABELS, REPORT, evaluation())


def figures(html: str) -> list[ElementTree.Element]:
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return [ElementTree.fromstring(base64.b64decode(each)) for each in found]


def test_everything_is_on_the_page() -> None:
    html = build_page([RESULT], ["models: nothing in junk"], "Made today.").render()
    for words in (
        "Not everything holds. Made today.",
        "deployed FAILED: bad",
        "007.onnx",
        "a/bad.png is skipped",
        "nothing in junk",
        "dog &lt;b&gt;",
        "Drop of top-1: 22.2 points",
        "Wilson",
        "McNemar",
    ):
        assert words in html, words
    assert "dog <b>" not in html
    assert len(figures(html)) == 4
    assert len(re.findall(r'alt="[^"]{20,}"', html)) == 4


def test_many_classes_have_no_matrix_but_a_whole_table() -> None:
    result = replace(RESULT, labels=(), evaluation=evaluation(40))
    html = build_page([result], [], "").render()
    assert len(figures(html)) == 3
    for index in range(40):
        assert f'<th scope="row">{index}</th>' in html
    assert "the lowest of all classes" in html


def test_the_same_results_give_the_same_page() -> None:
    pages = {build_page([RESULT], [], "").render() for _ in range(2)}
    assert len(pages) == 1


def test_a_model_that_could_not_be_checked() -> None:
    html = build_page([ModelResult("broken", error="no plan")], [], "").render()
    assert "FAILED: no plan" in html
    assert figures(html) == []


def test_given_outputs() -> None:
    given = GivenOutput("test_data_set_0", "partitions", "y", 9, 2, 0.5, "2 of 9 numbers")
    found = replace(evaluation(), given=(given,), problems=("it is wrong",), classification=None)
    html = build_page([replace(RESULT, evaluation=found)], [], "").render()
    assert "test_data_set_0" in html
    assert "FAILED: it is wrong" in html
    assert "0 of 1 comparisons hold within 1e-05 + 0.001 × |given|" in html


def test_json_has_no_infinity_and_all_of_it() -> None:
    answer = json.loads(json.dumps(to_json([RESULT], ["note"]), allow_nan=False))
    assert answer["passed"] is False
    assert answer["notes"] == ["note"]
    [model] = answer["models"]
    assert model["labels"] == list(LABELS)
    assert model["rungs"][2]["differences"] == [0, None]
    found = model["evaluation"]
    assert found["passed"] is True
    assert found["classification"]["reference_top1"]["count"] == 9
    assert found["classification"]["drop"]["first_only"] == 2
    assert found["classification"]["confusion"][0] == [2, 1, 0]
    assert found["distances"]["decades"] == [[-7, 5], [-6, 1]]


def test_the_terminal_shows_labels_as_they_are() -> None:
    text = StringIO()
    print_result(RESULT, Console(file=text, width=120))
    for words in (*LABELS, "top-1", "100 %", "Drop of top-1", "FAILED", "inf"):
        assert words in text.getvalue(), words


def test_what_was_stopped_says_so() -> None:
    result = replace(RESULT, evaluation=replace(evaluation(), complete=False))
    text = StringIO()
    print_result(result, Console(file=text, width=120))
    assert "until it was stopped" in text.getvalue()
    assert "It was stopped before the end." in build_page([result], [], "").render()
    assert not result.passed
    whole = [ModelResult("shapes", LABELS, replace(REPORT, rungs=()))]
    assert to_json(whole, [])["passed"] is True
    assert to_json(whole, [], stopped=True)["passed"] is False
    assert "Stopped before the end" in build_page(whole, [], "", stopped=True).render()


@pytest.mark.parametrize(
    ("max_drop", "said"),
    [
        (None, None),
        (0.9, "within the allowed 90 points, and so is the whole interval"),
        (0.3, "within the allowed 30 points, but the interval reaches beyond"),
        (0.1, "above the allowed 10 points, but part of the interval isn't"),
    ],
)
def test_how_sure_a_drop_is(max_drop: float | None, said: str | None) -> None:
    text = " ".join(findings(evaluation(max_drop=max_drop)))
    assert ("allowed" in text) == (said is not None)
    assert said is None or said in text


def test_the_weakest_classes() -> None:
    rows = tally(40).result().rows
    chosen = weakest(rows, 5)
    assert [row.index for row in chosen] == [0, 1, 2, 3, 4]
    recalls = [row.partitions.recall for row in chosen]
    assert recalls == sorted(recalls, key=lambda each: each or 0.0)
    assert weakest(rows, 40) == list(rows)
