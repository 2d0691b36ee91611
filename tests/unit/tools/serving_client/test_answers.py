from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from app.server.oip.request import decode_request
from app.server.oip.response import encode_response
from app.tensors import Array, TensorSpec, dtype_name
from tests.unit.app.server.oip.bodies import DTYPES, card_for
from tools.errors import ServingError
from tools.serving_client.answers import read_classification, read_infer, read_inputs, read_json
from tools.serving_client.connection import Reply
from tools.serving_client.requests import Options, encode, zeros

HEADER = "inference-header-content-length"


def arrays() -> list[Array]:
    found: list[Array] = []
    for dtype in DTYPES:
        if dtype == "string":
            found.append(np.array([["wörd", ""]], object))
        elif dtype == "bfloat16":
            found.append(np.array([[0x8000, 0x3F80]], np.uint16).view([("bfloat16", "<u2")]))
        else:
            found.append(np.array([[0, 1]], dtype))
    return found


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("array", arrays(), ids=dtype_name)
def test_what_is_sent_is_what_comes_back(array: Array, binary: bool) -> None:
    card = card_for(array)
    pieces, head = encode({"t": array}, Options(binary=binary, request_id="7", priority=2))
    request = decode_request(b"".join(pieces), card, head)
    assert (request.id, request.priority) == ("7", 2)
    assert request.inputs["t"].tobytes() == array.tobytes() or array.dtype == object
    sent = encode_response("m", 1, card, request, request.inputs)
    headers = {HEADER: str(len(sent.header))} if sent.tensors else {}
    answer = read_infer(Reply(headers, b"".join([sent.header, *sent.tensors])))
    assert (answer.model, answer.version, answer.request_id) == ("m", "1", "7")
    expected = array
    if dtype_name(array) == "bfloat16" and not binary:
        expected = np.array([[-0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(answer.outputs["t"], expected)


def test_binary_data_starts_where_the_server_needs_no_copy() -> None:
    for length in range(20):
        pieces, head = encode({"t" * (length + 1): np.ones(3)}, Options())
        assert head is not None
        assert head % 16 == 0
        assert len(pieces[0]) == head


def test_type_that_the_protocol_lacks() -> None:
    with pytest.raises(ServingError, match="complex64"):
        encode({"t": np.zeros(1, np.complex64)}, Options())


RIGHT: dict[str, Any] = {
    "model_name": "m",
    "model_version": "1",
    "outputs": [
        {
            "name": "t",
            "datatype": "FP32",
            "shape": [2],
            "parameters": {"binary_data_size": 8},
        }
    ],
}


def answer(change: dict[str, Any], binary: bytes = bytes(8), size: str | None = None) -> Reply:
    output = RIGHT["outputs"][0] | change
    head = json.dumps(RIGHT | {"outputs": [output]}).encode()
    return Reply({HEADER: str(len(head)) if size is None else size}, head + binary)


@pytest.mark.parametrize(
    "reply",
    [
        answer({}, bytes(7)),
        answer({}, size="x"),
        answer({}, size="3"),
        answer({"datatype": "FP33"}),
        answer({"shape": [3]}),
        answer({"shape": None}),
        answer({"parameters": None}),
        answer({"parameters": {}}),
        Reply({}, b"[]"),
        Reply({}, b"\xff"),
        Reply({}, b'{"outputs": []}'),
    ],
)
def test_answer_that_is_none(reply: Reply) -> None:
    with pytest.raises(ServingError, match="isn't one to an inference request"):
        read_infer(reply)


def test_other_answers_that_are_none() -> None:
    with pytest.raises(ServingError, match="isn't a classification"):
        read_classification(Reply({}, b'{"labels": [{}]}'))
    with pytest.raises(ServingError, match="isn't JSON"):
        read_json(Reply({}, b"<html>"))


def test_inputs_of_a_model() -> None:
    told = [
        {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "b", "datatype": "BYTES", "shape": [2]},
        {"name": "c", "datatype": "BF16", "shape": []},
    ]
    specs = read_inputs(Reply({}, json.dumps({"inputs": told}).encode()))
    assert [(each.dtype, each.shape) for each in specs] == [
        ("float32", (1, 3)),
        ("string", (2,)),
        ("bfloat16", ()),
    ]
    made = zeros(specs)
    assert [dtype_name(made[each.name]) for each in specs] == [each.dtype for each in specs]
    assert [made[each.name].shape for each in specs] == [each.shape for each in specs]
    assert made["b"].tolist() == ["", ""]
    for wrong in (b"{}", b'{"inputs": [{"name": "a"}]}', b'{"inputs": [3]}', b'{"inputs": 3}'):
        with pytest.raises(ServingError, match="doesn't say what the model takes"):
            read_inputs(Reply({}, wrong))


def test_example_larger_than_any_request() -> None:
    with pytest.raises(ServingError, match="'a'"):
        zeros([TensorSpec("a", "float32", (1 << 40, 1 << 40))])


def test_null_is_not_a_number() -> None:
    output = {"name": "t", "datatype": "FP32", "shape": [2], "data": [1.5, None]}
    reply = Reply({}, json.dumps(RIGHT | {"outputs": [output]}).encode())
    np.testing.assert_array_equal(
        read_infer(reply).outputs["t"], np.array([1.5, np.nan], np.float32)
    )
