from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.card import ModelCard
from app.errors import InputError
from app.server.oip.request import InferRequest, WantedOutput
from app.server.oip.response import InferAnswer, encode_response
from app.tensors import BFLOAT16, Array
from tests.fakes import PICTURE_CARD, TENSOR_CARD, spec


def encode(
    outputs: dict[str, Array],
    *wanted: WantedOutput,
    card: ModelCard = TENSOR_CARD,
    request_id: str | None = None,
) -> InferAnswer:
    asked = wanted or tuple(WantedOutput(name) for name in outputs)
    return encode_response("m", 2, card, InferRequest(request_id, {}, asked), outputs)


def described(answer: InferAnswer) -> list[Any]:
    found: list[Any] = json.loads(answer.header)["outputs"]
    return found


def test_only_the_outputs_that_are_wanted() -> None:
    answer = encode({"y": np.ones(1), "z": np.zeros(1)}, WantedOutput("z"))
    parsed = json.loads(answer.header)
    assert parsed["model_version"] == "2"
    assert "id" not in parsed
    assert [each["name"] for each in parsed["outputs"]] == ["z"]
    assert not answer.tensors


def test_binary_outputs_are_the_memory_of_the_arrays() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = encode({"y": array}, WantedOutput("y", binary=True), request_id="7")
    assert json.loads(answer.header) == {
        "model_name": "m",
        "model_version": "2",
        "id": "7",
        "outputs": [
            {
                "name": "y",
                "datatype": "FP32",
                "shape": [2, 3],
                "parameters": {"binary_data_size": 24},
            }
        ],
    }
    (tensor,) = answer.tensors
    assert tensor.tobytes() == array.tobytes()
    array[0, 0] = 99
    assert tensor[:4].tobytes() == np.float32(99).tobytes(), "a copy was sent"


def test_binary_and_json_in_one_answer() -> None:
    outputs: dict[str, Array] = {"y": np.ones(1, np.int8), "z": np.zeros(2, bool)}
    answer = encode(outputs, WantedOutput("y"), WantedOutput("z", binary=True))
    assert answer.tensors
    assert [tensor.tobytes() for tensor in answer.tensors] == [b"\0\0"]
    assert [each.keys() - {"name", "datatype", "shape"} for each in described(answer)] == [
        {"data"},
        {"parameters"},
    ]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<i4").reshape(2, 3).T,
        np.arange(6, dtype="<i4")[::2],
        np.arange(6, dtype="<i4").astype(">i4"),
        np.array(5, dtype="<i4"),
        np.zeros((0, 3), "<i4"),
    ],
)
def test_any_layout_is_sent_in_row_major_order(array: Array) -> None:
    answer = encode({"y": array}, WantedOutput("y", binary=True))
    back = np.frombuffer(answer.tensors[0].tobytes(), "<i4").reshape(array.shape)
    np.testing.assert_array_equal(back, array)
    assert answer.tensors


def test_strings() -> None:
    array = np.array(["wörd", ""], dtype=object)
    json_form, binary_form = (
        encode({"words": array}, WantedOutput("words", binary)) for binary in (False, True)
    )
    assert described(json_form) == [
        {"name": "words", "datatype": "BYTES", "shape": [2], "data": ["wörd", ""]}
    ]
    assert binary_form.tensors[0].tobytes() == b"\5\0\0\0w\xc3\xb6rd\0\0\0\0"


def test_bytes_that_are_no_text_are_sent_as_binary_only() -> None:
    array = np.array([b"\xff"], dtype=object)
    sent = encode({"t": array}, WantedOutput("t", binary=True))
    assert sent.tensors[0].tobytes() == b"\1\0\0\0\xff"
    with pytest.raises(InputError, match="ask for it with binary_data"):
        encode({"t": array}, WantedOutput("t"))


def test_output_that_the_protocol_cannot_carry() -> None:
    with pytest.raises(InputError, match="complex64"):
        encode({"y": np.zeros(1, np.complex64)})


def test_json_has_null_for_what_it_lacks_and_keeps_the_sign_of_zero() -> None:
    array = np.array([-0.0, np.nan, np.inf, -np.inf], dtype=np.float32)
    answer = encode({"y": array})
    assert b"[-0.0,null,null,null]" in answer.header
    binary = encode({"y": array}, WantedOutput("y", binary=True))
    assert binary.tensors[0].tobytes() == array.tobytes()


def test_bfloat16() -> None:
    array = np.array([0x3F80, 0x8000, 0x7F80], np.uint16).view(BFLOAT16)
    assert described(encode({"y": array})) == [
        {"name": "y", "datatype": "BF16", "shape": [3], "data": [1.0, -0.0, None]}
    ]
    assert encode({"y": array}, WantedOutput("y", binary=True)).tensors[0].tobytes() == (
        b"\x80\x3f\0\x80\x80\x7f"
    )


SCORES = np.array([[0.25, 0.5, 0.5], [-1, np.nan, -2]], np.float32)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [["0.500000:1:light"], ["-1.000000:0:dark"]]),
        (2, [["0.500000:1:light", "0.500000:2"], ["-1.000000:0:dark", "-2.000000:2"]]),
        (
            100_000,
            [
                ["0.500000:1:light", "0.500000:2", "0.250000:0:dark"],
                ["-1.000000:0:dark", "-2.000000:2", "nan:1:light"],
            ],
        ),
    ],
)
def test_classification(count: int, expected: list[list[str]]) -> None:
    (found,) = described(
        encode({"scores": SCORES}, WantedOutput("scores", classes=count), card=PICTURE_CARD)
    )
    assert found["datatype"] == "BYTES"
    assert found["shape"] == [2, len(expected[0])]
    assert found["data"] == [text for row in expected for text in row]


def test_classification_without_a_batch() -> None:
    card = replace(TENSOR_CARD, outputs=(spec("y", 3), spec("z", 2, 2)), labels=("a",))
    outputs: dict[str, Array] = {"y": np.array([3, 255, 0], np.uint8), "z": np.eye(2)}
    asked = WantedOutput("y", classes=2), WantedOutput("z", classes=2)
    y, z = described(encode(outputs, *asked, card=card))
    assert (y["shape"], y["data"]) == ([2], ["255.000000:1", "3.000000:0:a"])
    assert (z["shape"], z["data"]) == ([2], ["1.000000:0", "1.000000:3"]), "labels are for y"


@pytest.mark.parametrize("array", [np.array(["a"], object), np.array([True])])
def test_classification_is_for_numbers(array: Array) -> None:
    with pytest.raises(InputError, match="only numbers can be ranked"):
        encode({"y": array}, WantedOutput("y", classes=1))


def test_classification_is_bounded() -> None:
    scores = np.zeros((1 << 11, 1 << 10), np.int8)
    with pytest.raises(InputError, match="as JSON at most 65536"):
        encode({"y": scores}, WantedOutput("y", classes=1 << 10))


def test_classification_of_nothing() -> None:
    (found,) = described(encode({"y": np.zeros((0, 4), np.float32)}, WantedOutput("y", classes=1)))
    assert found["data"] == []
