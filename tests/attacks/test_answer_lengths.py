"""Who watches the line sees how long answers are: the length must not tell what is in them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from app.card import ModelCard
from app.limits import ANSWER_STEP_BYTES
from app.server.oip.datatypes import DATATYPES
from app.server.oip.request import InferRequest, WantedOutput
from app.server.oip.response import encode_response
from app.tensors import BFLOAT16, Array, TensorSpec, numpy_dtype
from tests import fakes, served
from tests.unit.app.server.oip.bodies import card_for
from tests.unit.app.server.routes.requests import SHADES, SUMS, picture

HEADER = "Inference-Header-Content-Length"
LABELS = (
    *("wart", "naevus", "melanoma in situ", 'with "quotes"\\', "ü" * 9, "\U0001f600"),
    "superficial spreading melanoma, Clark level III",
)
"""Of a few letters, of many, and of letters that JSON writes with up to twelve."""
CLASSES = len(LABELS) + 2
"""Two have no label."""
CARD = replace(
    fakes.PICTURE_CARD,
    labels=LABELS,
    outputs=(TensorSpec("scores", "float32", ("batch", CLASSES)),),
)
SHADES_INFER = "/v2/models/shades/infer"


class Answering:
    """A model whose scores a test chooses, and the routes before it."""

    def __init__(self, card: ModelCard = CARD) -> None:
        self.scores = np.zeros(CLASSES, np.float32)
        model = served.Model("shades", 1, card, self._compute)
        self.client: FlaskClient = served.client(served.models(shades=model))

    def _compute(self, values: Mapping[str, Array]) -> dict[str, Array]:
        return {"scores": np.tile(self.scores, (len(values["image"]), 1))}

    def sizes(self, path: str, **request: Any) -> Iterator[tuple[int, int]]:
        """Gives the sizes of heads and bodies of answers, whichever class is the best."""
        for best in range(CLASSES):
            for height in (1e-7, 0.5, 1, 30, 3e38, np.nan, np.inf):
                answer = self.answer(path, best, height, **request)
                head = sum(len(f"{name}: {value}\r\n") for name, value in answer.headers)
                yield head, len(answer.get_data())

    def answer(self, path: str, best: int, height: float, **request: Any) -> TestResponse:
        """Asks while one class has a score."""
        self.scores = np.zeros(CLASSES, np.float32)
        self.scores[best] = height
        answer = self.client.post(path, **request)
        assert answer.status_code == 200, answer.get_data()
        return answer


@pytest.fixture(scope="module")
def answering() -> Answering:
    return Answering()


IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [1] * 4}


def wanted(**parameters: Any) -> dict[str, Any]:
    outputs = [{"name": "scores", "parameters": parameters}]
    return {"json": {"inputs": [IMAGE], "outputs": outputs}}


@pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "gzip, deflate, br"}])
@pytest.mark.parametrize(
    ("path", "request_"),
    [
        *((f"{SHADES}?top_k={count}", {"data": picture()}) for count in (1, 2, 5, 100)),
        (SHADES_INFER, wanted()),
        (SHADES_INFER, wanted(binary_data=True)),
        *(
            (SHADES_INFER, wanted(classification=count, binary_data=binary))
            for count in (1, 3, 1000)
            for binary in (False, True)
        ),
    ],
)
def test_every_class_gives_an_answer_of_the_same_length(
    answering: Answering, path: str, request_: dict[str, Any], headers: dict[str, str]
) -> None:
    content_type = None if "json" in request_ else "image/png"
    sizes = set(answering.sizes(path, content_type=content_type, headers=headers, **request_))
    assert len(sizes) == 1


@pytest.mark.parametrize("label_bytes", [1, 300, 3000, 9_000])
def test_the_number_that_says_where_json_ends_has_as_many_digits(label_bytes: int) -> None:
    """One label is so long that the JSON before the strings is ten times as long for others."""
    long = Answering(replace(CARD, labels=("a", "b" * label_bytes)))
    asked = wanted(classification=1, binary_data=True)
    assert len(set(long.sizes(SHADES_INFER, **asked))) == 1
    ends = {long.answer(SHADES_INFER, best, 1, **asked).headers[HEADER] for best in range(CLASSES)}
    assert all(len(end) == 10 for end in ends)
    assert len(ends) > 1 or label_bytes == 1


@pytest.mark.parametrize("dtype", sorted(set(DATATYPES) - {"string"}))
@pytest.mark.parametrize("binary", [False, True])
@given(data=st.data())
def test_outputs_of_one_shape_give_answers_of_one_length(
    dtype: str, binary: bool, data: st.DataObject
) -> None:
    kind = "uint16" if dtype == "bfloat16" else dtype
    shape = data.draw(st.sampled_from([(0,), (1,), (7,), (3, 50)]))
    count = int(np.prod(shape))
    bits = data.draw(st.binary(min_size=8 * count, max_size=8 * count))
    drawn = np.frombuffer(bits, np.uint64).astype(np.bool_ if dtype == "bool" else np.uint64)
    size = np.dtype(kind).itemsize
    raw = drawn.tobytes() if dtype == "bool" else bits[: size * count]
    values = np.frombuffer(raw, BFLOAT16 if dtype == "bfloat16" else numpy_dtype(kind))
    values = values.reshape(shape)
    card = card_for(values)
    assert _length(card, values, binary) == _length(card, np.zeros_like(values), binary)


def _length(card: ModelCard, values: Array, binary: bool) -> int:
    asked = InferRequest(None, {}, (WantedOutput("t", binary=binary),))
    answer = encode_response("m", 1, card, asked, {"t": values})
    assert (len(answer.header) + sum(map(len, answer.tensors))) % ANSWER_STEP_BYTES == 0
    return len(answer.header) + sum(map(len, answer.tensors))


def test_compressible_outputs_are_as_long_as_others(answering: Answering) -> None:
    """A mask of one value, and one of noise."""
    del answering
    client = served.client(served.models())
    sizes = set()
    for x in (np.zeros(4096, "<f4"), np.random.default_rng(0).random(4096, dtype="<f4")):
        tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1024, 4]}
        tensor |= {"parameters": {"binary_data_size": 4 * 4096}}
        count = {"name": "count", "datatype": "INT64", "shape": [1], "data": [0]}
        asked = {"inputs": [tensor, count], "parameters": {"binary_data_output": True}}
        head = json.dumps(asked).encode()
        answer = client.post(
            SUMS,
            data=gzip.compress(head + x.tobytes()),
            headers={HEADER: str(len(head)), "Content-Encoding": "gzip", "Accept-Encoding": "gzip"},
        )
        assert answer.status_code == 200
        sizes.add(len(answer.get_data()))
    assert len(sizes) == 1


@pytest.mark.parametrize("quoted", ["1", "wart", "x" * 200])
def test_refusals_that_quote_a_request_are_as_long(quoted: str) -> None:
    client = served.client(served.models())
    tensor = {"name": "x", "datatype": quoted, "shape": [1, 4], "data": [1] * 4}
    answer = client.post(SUMS, json={"inputs": [tensor]})
    assert answer.status_code == 400
    assert len(answer.get_data()) == ANSWER_STEP_BYTES
    assert re.fullmatch(rb'\{"error":"[^\n]+"\} *\n', answer.get_data())


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("meaning", ["logits", "probabilities"])
def test_scores_that_are_no_numbers_make_json_all_the_same(score: float, meaning: str) -> None:
    """JSON has no NaN: a page that got one would show nothing at all."""
    scores = np.array([[0.25, score]], np.float32)
    card = replace(fakes.PICTURE_CARD, scores=meaning)
    model = served.Model("shades", 1, card, lambda _: {"scores": scores})
    answer = served.client(served.models(shades=model)).post(
        SHADES, data=picture(), content_type="image/png"
    )
    assert answer.status_code == 200

    def no_constant(name: str) -> None:
        raise AssertionError(name)

    labels = json.loads(answer.get_data(), parse_constant=no_constant)["labels"]
    assert {each["label"] for each in labels} == {"dark", "light"}
    assert any(each["probability"] is None for each in labels) or meaning == "logits"
