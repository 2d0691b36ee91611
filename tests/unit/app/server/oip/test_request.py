from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from app.errors import InputError, PayloadTooLargeError
from app.limits import MAX_STRING_ELEMENTS, MAX_TENSOR_ELEMENTS
from app.server.oip.request import WantedOutput, decode_request, read_header_bytes
from app.tensors import BFLOAT16
from tests.fakes import TENSOR_CARD
from tests.unit.app.server.oip.bodies import COUNT, X, binary, body, card_of


def test_right_request() -> None:
    request = decode_request(body(id="7"), TENSOR_CARD)
    assert request.id == "7"
    assert request.outputs == (WantedOutput("y"),)
    assert (request.priority, request.timeout_us) == (0, None)
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
        ({"data": [[1, 2, 3, 4, 5]]}, "expected arrays of 4 at dimension 1"),
        ({"data": [[1, 2, 3, 4], 5]}, "nested otherwise"),
        ({"data": [[[1], [2], [3], [4]]]}, "only float32 values"),
        ({"extra": 1}, r"request\.inputs\[0\]: unknown field\(s\) 'extra'"),
        ({"parameters": {"binary_data_size": 16}}, "Inference-Header-Content-Length is missing"),
        ({"parameters": {"shared_memory_region": "r"}}, "doesn't accept shared memory"),
        ({"parameters": {"shared_memory_offset": 1}}, "doesn't accept shared memory"),
        ({"parameters": {"hint": None}}, "expected a string, a number or a truth value"),
        ({"parameters": {"hint": []}}, "expected a string, a number or a truth value"),
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
        (body(outputs=[{"name": "y"}, {"name": "y"}]), "an output is given twice"),
        (body(outputs=[{"name": "y", "data": []}]), "unknown field"),
        (body(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), "true or false"),
        (body(outputs=[{"name": "y", "parameters": {"classification": 0}}]), "expected 1 to"),
        (body(outputs=[{"name": "y", "parameters": {"classification": True}}]), "whole number"),
        (body(outputs=[{"name": "y", "parameters": {"shared_memory_region": ""}}]), "shared"),
        (body(parameters={"binary_data_output": "yes"}), "true or false"),
        (body(parameters={"timeout": -1}), "expected 0 to"),
        (body(parameters={"timeout": 1.5}), "whole number"),
        (body(parameters={"priority": 1 << 70}), "expected 0 to"),
        (body(parameters={"sequence_id": 1}), "keep no state"),
        (body(extra=1), r"unknown field\(s\) 'extra'"),
        (body({"data": [float("nan")] * 4}), "NaN isn't a JSON number"),
        (body({"data": [float("inf")] * 4}), "Infinity isn't a JSON number"),
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
    raw, head = binary(change={"shape": shape})
    with pytest.raises(PayloadTooLargeError, match="elements, at most"):
        decode_request(raw, TENSOR_CARD, head)


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
        ("bfloat16", "BF16", 3.4e38, "beyond bfloat16"),
        ("bfloat16", "BF16", True, "only bfloat16 values"),
        ("string", "BYTES", 1, "only string values"),
        ("string", "BYTES", "\ud800", "half a character"),
        ("complex64", "FP32", 1, "expects None"),
    ],
)
def test_item_that_the_type_cannot_hold(dtype: str, datatype: str, item: object, said: str) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [1], "data": [item]}
    with pytest.raises(InputError, match=said):
        decode_request(json.dumps({"inputs": [tensor]}).encode(), card_of(dtype, 1))


@pytest.mark.parametrize(
    ("number", "bits"),
    [
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (1.0, 0x3F80),
        (1.00390625, 0x3F80),  # half way, to even
        (1.01171875, 0x3F82),  # half way, to even
        (1.005, 0x3F81),
        (-2.0, 0xC000),
    ],
)
def test_bfloat16_is_rounded_to_nearest(number: float, bits: int) -> None:
    tensor = {"name": "x", "datatype": "BF16", "shape": [1], "data": [number]}
    raw = json.dumps({"inputs": [tensor]}).encode()
    found = decode_request(raw, card_of("bfloat16", 1)).inputs["x"]
    assert found.dtype == BFLOAT16
    assert found.view(np.uint16).tolist() == [bits]


def test_unknown_parameters_are_hints() -> None:
    parameters = {"binary_data": False, "hint": 3, "text": "x", "share": 0.5}
    request = decode_request(body({"parameters": parameters}, parameters=parameters), TENSOR_CARD)
    assert request.inputs.keys() == {"x", "count"}


def test_priority_and_timeout() -> None:
    request = decode_request(body(parameters={"priority": 1, "timeout": 1000}), TENSOR_CARD)
    assert (request.priority, request.timeout_us) == (1, 1000)
    assert decode_request(body(parameters={"timeout": 0}), TENSOR_CARD).timeout_us is None


def test_form_of_the_outputs() -> None:
    everything = decode_request(body(parameters={"binary_data_output": True}), TENSOR_CARD)
    assert everything.outputs == (WantedOutput("y", binary=True),)
    wanted = [{"name": "y", "parameters": {"binary_data": False, "classification": 3}}]
    one = decode_request(body(parameters={"binary_data_output": True}, outputs=wanted), TENSOR_CARD)
    assert one.outputs == (WantedOutput("y", binary=False, classes=3),)
    assert decode_request(body(outputs=[]), TENSOR_CARD).outputs == (WantedOutput("y"),)


def test_binary_tensor_is_a_view_where_its_place_suits_the_type() -> None:
    for padding in range(8):
        raw, head = binary(padding=padding)
        found = decode_request(raw, TENSOR_CARD, head).inputs["x"]
        np.testing.assert_array_equal(found, np.array([[1, 2, 3, 4.5]], np.float32))
        assert found.ctypes.data % 4 == 0
        address = np.frombuffer(raw, np.uint8).ctypes.data + head
        assert (found.ctypes.data == address) == (address % 4 == 0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (binary(bytes(15)), "expected 16 bytes for FP32 .* got 15"),
        (binary(bytes(17)), "expected 16 bytes for FP32 .* got 17"),
        (binary(bytes(16), size=12), "expected 16 bytes .* got 12"),
        (binary(bytes(16), size=17), "binary_data_size: expected 0 to 16"),
        (binary(bytes(16), size=-1), "binary_data_size: expected 0 to 16"),
        (binary(bytes(16), size=1 << 63), "binary_data_size: expected 0 to 16"),
        (binary(bytes(16), size="16"), "whole number"),
        (binary(bytes(16), size=True), "whole number"),
        (binary(bytes(16), change={"data": [1, 2, 3, 4]}), "unknown field"),
        (binary(bytes(16), change={"parameters": {}}), "'data' is missing"),
    ],
)
def test_binary_data_that_does_not_fit(asked: tuple[bytes, int], said: str) -> None:
    raw, head = asked
    with pytest.raises(InputError, match=said):
        decode_request(raw, TENSOR_CARD, head)


def test_bytes_that_nobody_asked_for() -> None:
    raw, head = binary()
    with pytest.raises(InputError, match="3 bytes follow the last input"):
        decode_request(raw + b"abc", TENSOR_CARD, head)


def test_tensors_are_cut_in_the_order_of_the_inputs() -> None:
    tensors = [
        {"name": "count", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}},
    ]
    head = json.dumps({"inputs": tensors}).encode()
    raw = head + np.array([7], "<i8").tobytes() + np.arange(4, dtype="<f4").tobytes()
    found = decode_request(raw, TENSOR_CARD, len(head)).inputs
    assert found["count"].tolist() == [7]
    assert found["x"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\1\0\0\0a", "the bytes end before element 1 of 2"),
        (b"\1\0\0\0a\1\0\0", "the bytes end before element 1 of 2"),
        (b"\1\0\0\0a\2\0\0\0b", "element 1 is longer"),
        (b"\1\0\0\0a\xff\xff\xff\xffb", "element 1 is longer"),
        (b"\1\0\0\0a\1\0\0\0bc", "1 bytes follow the last of 2"),
        (b"\1\0\0\0a\1\0\0\0\xff", "UTF-8"),
    ],
)
def test_wrong_strings(raw: bytes, said: str) -> None:
    tensor = {
        "name": "x",
        "datatype": "BYTES",
        "shape": [2],
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(InputError, match=said):
        decode_request(head + raw, card_of("string", "n"), len(head))


def test_number_of_strings_is_bounded_before_any_is_made() -> None:
    count = MAX_STRING_ELEMENTS + 1
    tensor = {
        "name": "x",
        "datatype": "BYTES",
        "shape": [count],
        "parameters": {"binary_data_size": 0},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(PayloadTooLargeError, match="strings, at most"):
        decode_request(head, card_of("string", "n"), len(head))


def test_bool_is_zero_or_one() -> None:
    found = decode_request(b"\1\0", card_of("bool", "n"), 0).inputs["x"]
    assert found.tolist() == [True, False]
    with pytest.raises(InputError, match="the byte 0 or 1"):
        decode_request(b"\1\2", card_of("bool", "n"), 0)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((1, 4), 16, (1, 4)),
        (("n", 4), 32, (2, 4)),
        (("n", 4), 0, (0, 4)),
        ((3, "n"), 12, (3, 1)),
        ((), 4, ()),
    ],
)
def test_raw_body(shape: tuple[int | str, ...], size: int, expected: tuple[int, ...]) -> None:
    request = decode_request(bytes(size), card_of("float32", *shape), 0)
    assert request.inputs["x"].shape == expected
    assert request.outputs == (WantedOutput("y", binary=True),)
    assert request.id is None


@pytest.mark.parametrize(
    ("dtype", "shape", "size", "said"),
    [
        ("float32", (1, 4), 15, "expected 16 bytes"),
        ("float32", ("n", 4), 17, "expected 16 bytes"),
        ("float32", ("n", 0), 4, "expected 0 bytes"),
        ("float32", ("n", "m"), 16, "at most one variable dimension"),
        ("string", ("n",), 8, "fixed-size elements"),
        ("complex64", ("n",), 8, "fixed-size elements"),
        ("uint8", ("n",), MAX_TENSOR_ELEMENTS + 1, "elements, at most"),
    ],
)
def test_raw_body_that_does_not_fit(
    dtype: str, shape: tuple[int | str, ...], size: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        decode_request(bytes(size), card_of(dtype, *shape), 0)


def test_raw_body_is_for_models_with_one_input() -> None:
    with pytest.raises(InputError, match="this one has 2"):
        decode_request(bytes(16), TENSOR_CARD, 0)


@pytest.mark.parametrize("text", ["-1", "", " 1", "1.0", "0x1", "11", "٣", "9" * 5000])
def test_header_size_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="Inference-Header-Content-Length: expected 0 to 10"):
        read_header_bytes(text, 10)


def test_header_size() -> None:
    assert read_header_bytes(None, 10) is None
    assert read_header_bytes("0", 10) == 0
    assert read_header_bytes("10", 10) == 10
