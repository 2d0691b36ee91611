"""Answers as values. The server is trusted for what it computes, its bytes are checked anyway."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.errors import InputError
from app.server.oip.datatypes import DATATYPES, from_binary, string_array
from app.tensors import Array, TensorSpec, numpy_dtype
from tools.errors import ServingError
from tools.serving_client.connection import Reply

_DTYPES: Final = {datatype: dtype for dtype, datatype in DATATYPES.items()}


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """What a model computed.

    Attributes:
        model, version: what answered.
        request_id: as it was sent; empty without one.
        outputs: arrays by name; views of the answer's bytes where they can. BF16 comes as
            `app.tensors.BFLOAT16`, from JSON as float32.
    """

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Label:
    """One class of a picture; `probability` is NaN where the model gave no number."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Classification:
    """What a picture shows.

    Attributes:
        labels: best first.
        timing: where the time went: "decode_ms", "run_ms", and "partitions" with one entry each.
        runtime: what the appliance runs in.
    """

    labels: tuple[Label, ...]
    timing: Mapping[str, Any]
    runtime: str


def read_infer(reply: Reply) -> InferAnswer:
    """Reads the answer to an inference request.

    Raises:
        ServingError: it isn't one.
    """
    size = reply.headers.get("inference-header-content-length", str(len(reply.body)))
    try:
        head = json.loads(reply.body[: int(size)])
        rest = memoryview(reply.body)[int(size) :]
        outputs = {}
        for each in head["outputs"]:
            length = each.get("parameters", {}).get("binary_data_size")
            outputs[each["name"]] = (
                _from_json(each) if length is None else _from_bytes(each, rest[:length])
            )
            rest = rest[length or 0 :]
        return InferAnswer(head["model_name"], head["model_version"], head.get("id", ""), outputs)
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise ServingError(f"the answer isn't one to an inference request: {error}") from error


def read_classification(reply: Reply) -> Classification:
    """Reads the answer to a picture.

    Raises:
        ServingError: it isn't one.
    """
    try:
        found = json.loads(reply.body)
        labels = tuple(
            Label(str(each["label"]), int(each["index"]), _probability(each["probability"]))
            for each in found["labels"]
        )
        return Classification(labels, dict(found["timing"]), str(found["runtime"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ServingError(f"the answer isn't a classification: {error}") from error


def _probability(item: object) -> float:
    return math.nan if item is None else float(str(item))


def read_json(reply: Reply) -> Any:
    """Reads any other answer.

    Raises:
        ServingError: it isn't JSON.
    """
    try:
        return json.loads(reply.body)
    except ValueError as error:
        raise ServingError(f"the answer isn't JSON: {error}") from error


def read_object(reply: Reply) -> dict[str, Any]:
    """Reads an answer of named fields.

    Raises:
        ServingError: it isn't one.
    """
    found = read_json(reply)
    if not isinstance(found, dict):
        raise ServingError("the answer isn't a JSON object")
    return found


def read_inputs(reply: Reply) -> list[TensorSpec]:
    """Reads which inputs a model takes from its metadata; sizes that vary become 1.

    Raises:
        ServingError: the answer doesn't say.
    """
    found = read_object(reply)
    try:
        return [
            TensorSpec(
                each["name"], _DTYPES[each["datatype"]], tuple(abs(size) for size in each["shape"])
            )
            for each in found["inputs"]
        ]
    except (KeyError, TypeError) as error:
        raise ServingError(f"the answer doesn't say what the model takes: {error}") from error


def _from_bytes(output: Mapping[str, Any], raw: memoryview) -> Array:
    dtype = _DTYPES[output["datatype"]]
    return from_binary(f"output {output['name']!r}", dtype, tuple(output["shape"]), raw)


def _from_json(output: Mapping[str, Any]) -> Array:
    dtype, shape, data = _DTYPES[output["datatype"]], tuple(output["shape"]), output["data"]
    if dtype == "string":
        return string_array(data, shape)
    if dtype == "bfloat16":
        dtype = "float32"
    if "float" in dtype:
        data = [math.nan if item is None else item for item in data]
    array: Array = np.array(data, numpy_dtype(dtype)).reshape(shape)
    return array
