"""An inference request as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from app.limits import MAX_TENSOR_ELEMENTS
from app.server.oip.datatypes import DATATYPES, to_binary
from app.server.oip.numbers import to_json
from app.tensors import Array, TensorSpec, dtype_name, numpy_dtype
from tools.errors import ServingError

_HEADER = "Inference-Header-Content-Length"

_ALIGNMENT = 16
"""Binary data starts at a multiple of this in the server's buffer, so that it needn't be copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a request may say beside its tensors.

    Attributes:
        outputs: names of the outputs wanted; empty for all.
        classes: above 0, so many best classes of every output, which then has to be named.
        request_id: sent back.
        priority: among the client's own requests; 0 for the default, else 1 goes first.
        timeout_us: after which nobody waits any more, in microseconds; 0 for never.
        binary: whether tensors travel as bytes or as JSON.
    """

    outputs: Sequence[str] = ()
    classes: int = 0
    request_id: str = ""
    priority: int = 0
    timeout_us: int = 0
    binary: bool = True


def length_headers(head_bytes: int | None) -> dict[str, str]:
    """Gives the header that says where a request's JSON ends, if `encode` says so."""
    return {} if head_bytes is None else {_HEADER: str(head_bytes)}


def encode(
    inputs: Mapping[str, Array], options: Options
) -> tuple[list[bytes | memoryview], int | None]:
    """Encodes a request.

    Returns:
        The pieces of the body; and the size of the JSON at its start, None when it is all.

    Raises:
        ServingError: an array is of a type that the protocol doesn't have.
    """
    tensors: list[memoryview] = []
    request: dict[str, object] = {"id": options.request_id} if options.request_id else {}
    request["inputs"] = [
        _input(name, array, tensors if options.binary else None) for name, array in inputs.items()
    ]
    if options.outputs:
        request["outputs"] = [_output(name, options) for name in options.outputs]
    parameters = {
        "priority": options.priority,
        "timeout": options.timeout_us,
        "binary_data_output": options.binary,
    }
    request["parameters"] = {name: value for name, value in parameters.items() if value}
    head = json.dumps(request, allow_nan=False, separators=(",", ":")).encode()
    if not options.binary:
        return [head], None
    head += b" " * (-len(head) % _ALIGNMENT)
    return [head, *tensors], len(head)


def zeros(specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Makes an example of what a model takes: zeros, and empty strings.

    Args:
        specs: as `answers.read_inputs` gives them, with every size known.

    Raises:
        ServingError: an input is larger than the appliance takes.
    """
    for spec in specs:
        if prod(_sizes(spec)) > MAX_TENSOR_ELEMENTS:
            raise ServingError(f"input {spec.name!r}: {list(_sizes(spec))} is more than is served")
    return {
        spec.name: np.full(_sizes(spec), "", object)
        if spec.dtype == "string"
        else np.zeros(_sizes(spec), numpy_dtype(spec.dtype))
        for spec in specs
    }


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in spec.shape or ())


def _input(name: str, array: Array, tensors: list[memoryview] | None) -> dict[str, object]:
    dtype = dtype_name(array)
    if dtype not in DATATYPES:
        raise ServingError(f"input {name!r} is of {dtype}, which the protocol doesn't have")
    found: dict[str, object] = {
        "name": name,
        "shape": list(array.shape),
        "datatype": DATATYPES[dtype],
    }
    if tensors is None:
        found["data"] = to_json(name, array)
        return found
    tensors.append(to_binary(array))
    found["parameters"] = {"binary_data_size": len(tensors[-1])}
    return found


def _output(name: str, options: Options) -> dict[str, object]:
    parameters: dict[str, object] = {"binary_data": options.binary}
    if options.classes:
        parameters["classification"] = options.classes
    return {"name": name, "parameters": parameters}
