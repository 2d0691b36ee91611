"""Open Inference Protocol v2 over JSON: requests become arrays, arrays become answers.

Source: https://github.com/kserve/open-inference-protocol, "Inference Protocol HTTP/REST".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Final

import numpy as np

from app.card import ModelCard
from app.errors import InputError, PayloadTooLargeError
from app.fields import FieldError, Fields, parse_json
from app.limits import MAX_ID_CHARACTERS, MAX_TENSOR_ELEMENTS
from app.tensors import MAX_RANK, Array, TensorSpec

DATATYPES: Final[Mapping[str, str]] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    "string": "BYTES",
}
"""The protocol's names of element types."""

PLATFORM: Final = "onnx_onnxv1"
_MAX_TENSORS: Final = 256


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed request.

    Attributes:
        id: the client's, sent back; None when it gave none.
        inputs: arrays by name, checked against the model card.
        outputs: names of the outputs that the client wants, in its order.
    """

    id: str | None
    inputs: dict[str, Array]
    outputs: tuple[str, ...]


def model_metadata(model_id: str, version: int, card: ModelCard) -> dict[str, object]:
    """Gives the protocol's description of a model; variable dimensions are -1."""
    return {
        "name": model_id,
        "versions": [str(version)],
        "platform": PLATFORM,
        "inputs": [_tensor_metadata(spec) for spec in card.inputs],
        "outputs": [_tensor_metadata(spec) for spec in card.outputs],
    }


def _tensor_metadata(spec: TensorSpec) -> dict[str, object]:
    shape = [dim if isinstance(dim, int) else -1 for dim in spec.shape or ()]
    return {"name": spec.name, "datatype": DATATYPES.get(spec.dtype, spec.dtype), "shape": shape}


def decode_request(raw: bytes, card: ModelCard) -> InferRequest:
    """Decodes an inference request.

    Args:
        raw: the JSON body; its size is bounded by the caller.
        card: what the model expects.

    Raises:
        InputError: with the place in the body, what was expected and what came.
    """
    try:
        fields = Fields(parse_json(raw), "request")
        return _read_request(fields, card)
    except FieldError as error:
        raise InputError(str(error)) from error


def _read_request(fields: Fields, card: ModelCard) -> InferRequest:
    request_id = fields.text("id", longest=MAX_ID_CHARACTERS) if fields.has("id") else None
    if fields.has("parameters"):
        _ignore_parameters(fields)
    specs = {spec.name: spec for spec in card.inputs}
    tensors = fields.each("inputs", lambda each: _read_input(each, specs), most=_MAX_TENSORS)
    inputs = dict(tensors)
    if len(inputs) != len(tensors):
        raise InputError("request.inputs: an input is given twice")
    if missing := sorted(specs.keys() - inputs.keys()):
        raise InputError(f"request.inputs: the inputs {missing} are missing")
    known = tuple(spec.name for spec in card.outputs)
    wanted = _read_outputs(fields, known) if fields.has("outputs") else known
    fields.done()
    return InferRequest(request_id, inputs, wanted)


def _read_outputs(fields: Fields, known: Sequence[str]) -> tuple[str, ...]:
    return fields.each("outputs", lambda each: _read_output(each, known), most=_MAX_TENSORS)


def _read_output(fields: Fields, known: Sequence[str]) -> str:
    if fields.has("parameters"):
        _ignore_parameters(fields)
    return fields.choice("name", known)


def _ignore_parameters(fields: Fields) -> None:
    """Parameters are hints; those that would change the body's format are refused."""
    inner = fields.inner("parameters")
    for name in inner.names():
        value = inner.take(name)
        asks_binary = name in ("binary_data", "binary_data_output") and value is True
        if asks_binary or name in ("binary_data_size", "classification"):
            raise FieldError(f"{inner.where}.{name}: this extension isn't implemented; send JSON")
        if name.startswith("shared_memory"):
            raise FieldError(f"{inner.where}.{name}: an enclave doesn't accept shared memory")


def _read_input(fields: Fields, specs: Mapping[str, TensorSpec]) -> tuple[str, Array]:
    name = fields.choice("name", tuple(specs))
    spec = specs[name]
    expected = DATATYPES.get(spec.dtype)
    datatype = fields.text("datatype", longest=16)
    if datatype != expected or spec.dtype in ("bfloat16", "string"):
        raise FieldError(
            f"{fields.where}: input {name!r} expects {expected}, got {datatype[:16]!r}"
            + (", which JSON can't carry here" if datatype == expected else "")
        )
    if fields.has("parameters"):
        _ignore_parameters(fields)
    shape = _read_shape(fields)
    spec.check_shape(shape)
    return name, _to_array(fields, spec, shape)


def _read_shape(fields: Fields) -> tuple[int, ...]:
    shape = []
    for size in fields.array("shape", most=MAX_RANK):
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 40:
            raise fields.wrong("shape", "whole numbers from 0", size)
        shape.append(size)
    if prod(shape) > MAX_TENSOR_ELEMENTS:
        raise PayloadTooLargeError(
            f"{fields.where}.shape: {prod(shape)} elements, "
            f"at most {MAX_TENSOR_ELEMENTS} are allowed"
        )
    return tuple(shape)


def _to_array(fields: Fields, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    flat = _flatten(fields, fields.array("data", most=MAX_TENSOR_ELEMENTS), shape)
    _check_types(fields, spec, flat)
    with np.errstate(over="ignore"):
        try:
            array = np.array(flat, dtype=spec.dtype).reshape(shape)
        except (OverflowError, ValueError) as error:
            raise FieldError(f"{fields.where}.data: a number is beyond {spec.dtype}") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FieldError(f"{fields.where}.data: a number is beyond {spec.dtype}")
    return array


def _flatten(fields: Fields, data: Sequence[object], shape: tuple[int, ...]) -> Sequence[object]:
    """Takes data flat or nested as the shape says."""
    level = data
    if level and isinstance(level[0], list):
        for axis, size in enumerate(shape[:-1]):
            lists = [item for item in level if isinstance(item, list)]
            if len(lists) != len(level) or len(level) != prod(shape[: axis + 1]):
                raise FieldError(
                    f"{fields.where}.data: nested otherwise than the shape {list(shape)} says, "
                    f"at dimension {axis} of size {size}"
                )
            if any(len(item) != shape[axis + 1] for item in lists):
                raise FieldError(
                    f"{fields.where}.data: dimension {axis + 1} must have {shape[axis + 1]} items"
                )
            level = list(chain.from_iterable(lists))
    if len(level) != prod(shape):
        raise FieldError(
            f"{fields.where}.data: expected {prod(shape)} items for the shape {list(shape)}, "
            f"got {len(level)}"
        )
    return level


def _check_types(fields: Fields, spec: TensorSpec, flat: Sequence[object]) -> None:
    kind = np.dtype(spec.dtype).kind
    by_kind: dict[str, set[type]] = {"f": {int, float}, "b": {bool}}
    allowed = by_kind.get(kind, {int})
    wrong = set(map(type, flat)) - allowed
    if wrong:
        example = next(item for item in flat if type(item) in wrong)
        raise fields.wrong("data", f"only {spec.dtype} values", example)


def encode_response(
    model_id: str, version: int, request: InferRequest, outputs: Mapping[str, Array]
) -> dict[str, object]:
    """Encodes the outputs that the client asked for.

    Raises:
        InputError: when an output's element type has no JSON form.
    """
    answer: dict[str, object] = {"model_name": model_id, "model_version": str(version)}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = [_encode_output(name, outputs[name]) for name in request.outputs]
    return answer


def _encode_output(name: str, array: Array) -> dict[str, object]:
    dtype = "string" if array.dtype.kind in "OUS" else array.dtype.name
    if dtype not in DATATYPES:
        raise InputError(f"output {name!r} is of {dtype}, which JSON can't carry")
    return {
        "name": name,
        "datatype": DATATYPES[dtype],
        "shape": list(array.shape),
        "data": _to_list(array),
    }


def _to_list(array: Array) -> list[object]:
    """JSON has no NaN or infinity: they become null, as many JSON writers do."""
    flat = array.reshape(-1)
    items: list[object] = flat.tolist()
    if flat.dtype.kind != "f" or np.isfinite(flat).all():
        return items
    return [item if finite else None for item, finite in zip(items, np.isfinite(flat), strict=True)]
