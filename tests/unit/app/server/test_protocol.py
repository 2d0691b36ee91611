from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.card import ModelCard
from app.errors import InputError, PayloadTooLargeError
from app.limits import MAX_TENSOR_ELEMENTS
from app.server.protocol import InferRequest, decode_request, encode_response, model_metadata
from tests.fakes import TENSOR_CARD, spec

X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4.5]}
COUNT: dict[str, Any] = {"name": "count", "datatype": "INT64", "shape": [1], "data": [2]}


def body(change: dict[str, Any] | None = None, **others: Any) -> bytes:
    """A right request with a change of the input x, and of fields beside it."""
    return json.dumps({"inputs": [X | (change or {}), COUNT], **others}).encode()


def test_right_request() -> None:
    request = decode_request(body(id="7"), TENSOR_CARD)
    assert request.id == "7"
    assert request.outputs == ("y",)
    np.testing.assert_array_equal(request.inputs["x"], np.array([[1, 2, 3, 4.5]], np.float32))
    assert request.inputs["count"].dtype == np.int64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "z"}, r"request\.inputs\[0\]\.name: expected 'x' or 'count'"),
        ({"name": 1}, "name"),
        ({"datatype": "FP64"}, "input 'x' expects FP32, got 'FP64'"),
        ({"datatype": "fp32"}, "expects FP32"),
        ({"shape": [1, 5]}, r"expected shape \['batch', 4\], got \[1, 5\]"),
        ({"shape": [4]}, "expected shape"),
        ({"shape": [-1, 4]}, "whole numbers from 0"),
        ({"shape": [1.0, 4]}, "whole numbers from 0"),
        ({"shape": [True, 4]}, "whole numbers from 0"),
        ({"shape": [[1], 4]}, "whole numbers from 0"),
        ({"shape": "1,4"}, "expected an array"),
        ({"shape": [1] * 33}, "at most 32"),
        ({"shape": [2, 4]}, r"expected 8 items for the shape \[2, 4\], got 4"),
        ({"data": [1, 2, 3]}, "expected 4 items .* got 3"),
        ({"data": []}, "got 0"),
        ({"data": "1234"}, "expected an array"),
        ({"data": [1, 2, 3, True]}, "only float32 values, got the truth value"),
        ({"data": [1, 2, 3, "4"]}, "only float32 values, got the string"),
        ({"data": [1, 2, 3, None]}, "only float32 values, got null"),
        ({"data": [1, 2, 3, [4]]}, "only float32 values, got an array"),
        ({"data": [1, 2, 3, {}]}, "only float32 values, got an object"),
        ({"data": [1, 2, 3, 1e39]}, "beyond float32"),
        ({"data": [1, 2, 3, 10**400]}, "beyond float32"),
        ({"data": [[1, 2], [3, 4]]}, "nested otherwise"),
        ({"data": [[1, 2, 3, 4, 5]]}, "dimension 1 must have 4 items"),
        ({"data": [[1, 2, 3, 4], 5]}, "nested otherwise"),
        ({"data": [[[1], [2], [3], [4]]]}, "only float32 values"),
        ({"extra": 1}, r"request\.inputs\[0\]: unknown field\(s\) 'extra'"),
        ({"parameters": {"binary_data_size": 16}}, "isn't implemented"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory"),
        ({"parameters": []}, "expected an object"),
    ],
)
def test_wrong_tensor(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        decode_request(body(change), TENSOR_CARD)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"null", "expected an object, got null"),
        (b"{}", "the field 'inputs' is missing"),
        (b'{"inputs": {}}', "expected an array"),
        (b'{"inputs": []}', r"the inputs \['count', 'x'\] are missing"),
        (b'{"inputs": [], "inputs": []}', "given twice"),
        (json.dumps({"inputs": [X, X, COUNT]}).encode(), "an input is given twice"),
        (body(id="x" * 257), "257 characters, at most 256"),
        (body(id=1), "expected a string"),
        (body(outputs=[{"name": "z"}]), "expected 'y'"),
        (body(outputs=[{"name": "y", "data": []}]), "unknown field"),
        (body(outputs=[{"name": "y", "parameters": {"binary_data": True}}]), "isn't implemented"),
        (body(outputs=[{"name": "y", "parameters": {"classification": 2}}]), "isn't implemented"),
        (body(parameters={"binary_data_output": True}), "isn't implemented"),
        (body(extra=1), r"unknown field\(s\) 'extra'"),
        (body({"data": [float("nan")] * 4}), "NaN isn't a JSON number"),
        (body().replace(b"4.5", b"1e999"), "beyond float32"),
    ],
)
def test_wrong_request(raw: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        decode_request(raw, TENSOR_CARD)


@pytest.mark.parametrize(
    "shape", [[1 << 39, 1 << 39], [MAX_TENSOR_ELEMENTS + 1, 1], [1 << 20] * 32]
)
def test_product_of_the_shape_is_bounded_before_anything_is_made(shape: list[int]) -> None:
    with pytest.raises(PayloadTooLargeError, match="elements, at most"):
        decode_request(body({"shape": shape}), TENSOR_CARD)


@pytest.mark.parametrize(
    ("dtype", "datatype", "item", "said"),
    [
        ("uint8", "UINT8", 256, "beyond uint8"),
        ("uint8", "UINT8", -1, "beyond uint8"),
        ("int64", "INT64", 1 << 63, "beyond int64"),
        ("uint64", "UINT64", -1, "beyond uint64"),
        ("int32", "INT32", 1.0, "only int32 values"),
        ("int32", "INT32", True, "only int32 values"),
        ("bool", "BOOL", 1, "only bool values"),
        ("float16", "FP16", 70_000, "beyond float16"),
        ("string", "BYTES", "text", "JSON can't carry"),
        ("bfloat16", "BF16", 1, "JSON can't carry"),
        ("complex64", "FP32", 1, "expects None"),
    ],
)
def test_number_that_the_type_cannot_hold(
    dtype: str, datatype: str, item: object, said: str
) -> None:
    card = replace(TENSOR_CARD, inputs=(spec("x", 1, dtype=dtype),))
    tensor = {"name": "x", "datatype": datatype, "shape": [1], "data": [item]}
    with pytest.raises(InputError, match=said):
        decode_request(json.dumps({"inputs": [tensor]}).encode(), card)


def test_harmless_parameters_are_hints() -> None:
    parameters = {"binary_data": False, "priority": 3}
    request = decode_request(body({"parameters": parameters}, parameters=parameters), TENSOR_CARD)
    assert request.inputs.keys() == {"x", "count"}


def test_only_the_outputs_that_are_wanted() -> None:
    card = replace(TENSOR_CARD, outputs=(spec("y", 1), spec("z", 1)))
    request = decode_request(body(outputs=[{"name": "z"}]), card)
    assert request.outputs == ("z",)
    answer = encode_response("m", 2, request, {"y": np.ones(1), "z": np.zeros(1)})
    assert answer["model_version"] == "2"
    assert "id" not in answer
    assert [each["name"] for each in json.loads(json.dumps(answer))["outputs"]] == ["z"]


def test_strings_are_sent_as_text() -> None:
    request = InferRequest("1", {}, ("words",))
    answer = encode_response("m", 1, request, {"words": np.array(["wörd"], dtype=object)})
    assert answer["outputs"] == [
        {"name": "words", "datatype": "BYTES", "shape": [1], "data": ["wörd"]}
    ]


def test_output_that_json_cannot_carry() -> None:
    with pytest.raises(InputError, match="complex64"):
        encode_response("m", 1, InferRequest(None, {}, ("y",)), {"y": np.zeros(1, np.complex64)})


def test_metadata() -> None:
    card: ModelCard = replace(TENSOR_CARD, outputs=(spec("y", "batch", dtype="string"),))
    assert model_metadata("m", 3, card) == {
        "name": "m",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "count", "datatype": "INT64", "shape": [1]},
        ],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}],
    }
