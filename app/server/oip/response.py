"""The answer to an inference request: JSON, followed by the tensors asked for as bytes.

TLS shows how long an answer is. So the JSON is padded with blanks: the length of
the whole depends on the model, on shapes and on what was asked for, not on what
the outputs hold. Only strings that a model itself gives are as long as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.card import ModelCard
from app.errors import InputError
from app.limits import ANSWER_STEP_BYTES, MAX_JSON_BYTES
from app.server.oip.bounds import check_elements, elements
from app.server.oip.classification import best_classes
from app.server.oip.datatypes import LENGTH_BYTES, datatype_of, to_binary
from app.server.oip.describe import bundle_parameter
from app.server.oip.numbers import WIDEST, json_text
from app.server.oip.request import InferRequest, WantedOutput
from app.tensors import Array, dtype_name

_SIZE_DIGITS: Final = 10
"""Of a tensor's size in bytes."""


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """An answer on its way to the wire.

    Attributes:
        header: the JSON.
        tensors: what follows it, in the order of the outputs; views of the outputs' memory.
        has_binary: whether some output was asked for as bytes, be they none.
    """

    header: bytes
    tensors: tuple[memoryview, ...]
    has_binary: bool


def check_answer(card: ModelCard, request: InferRequest) -> None:
    """Refuses a request whose answer would hold too much JSON, as far as shapes tell beforehand.

    Raises:
        InputError: it would.
    """
    sizes = {
        dimension: size
        for spec in card.inputs
        for dimension, size in zip(spec.shape or (), request.inputs[spec.name].shape, strict=False)
        if isinstance(dimension, str)
    }
    specs = {spec.name: spec for spec in card.outputs}
    written = [wanted for wanted in request.outputs if not wanted.binary and not wanted.classes]
    check_elements(sum(elements(specs[wanted.name], sizes) or 0 for wanted in written))


def encode_response(
    model_id: str,
    version: int,
    card: ModelCard,
    request: InferRequest,
    outputs: Mapping[str, Array],
    *,
    bundle_id: str = "",
) -> InferAnswer:
    """Encodes the outputs that the client asked for.

    Args:
        model_id: what answered.
        version: of it.
        card: its labels and outputs.
        request: what was asked.
        outputs: the model's, by name; not changed until the answer has left.
        bundle_id: of the bundle that the model was loaded from; empty for none.

    Raises:
        InputError: an output can't be had in the form that was asked for.
    """
    answer: dict[str, object] = {"model_name": model_id, "model_version": str(version)}
    if request.id is not None:
        answer["id"] = request.id
    if bundle_id:
        answer["parameters"] = bundle_parameter(bundle_id)
    written = [wanted for wanted in request.outputs if not wanted.binary and not wanted.classes]
    check_elements(sum(outputs[wanted.name].size for wanted in written))
    encoded = [_encode(card, wanted, outputs[wanted.name]) for wanted in request.outputs]
    header = (
        _dumps(answer)[:-1] + b',"outputs":[' + b",".join(output.text for output in encoded) + b"]}"
    )
    tensors = tuple(output.tensor for output in encoded if output.tensor is not None)
    longest = len(header) + sum(output.missing_bytes for output in encoded)
    most_bytes = sum(output.most_bytes for output in encoded)
    varying_bytes = sum(output.most_bytes for output in encoded if output.varies)
    # Where the JSON ends stands in a header, in as many digits whatever the tensors hold.
    least_bytes = padded_bytes(longest + most_bytes) - most_bytes
    while len(str(least_bytes)) < len(str(least_bytes + varying_bytes)):
        least_bytes = 10 ** (len(str(least_bytes + varying_bytes)) - 1)
    header_bytes = least_bytes + most_bytes - sum(map(len, tensors))
    return InferAnswer(header.ljust(header_bytes), tensors, bool(tensors))


def padded_bytes(longest: int) -> int:
    """Gives to how many bytes a text answer is padded.

    Args:
        longest: most bytes that it could have.
    """
    return -(-longest // ANSWER_STEP_BYTES) * ANSWER_STEP_BYTES


@dataclass(frozen=True, slots=True)
class _Output:
    """One output in an answer.

    Attributes:
        text: its JSON.
        missing_bytes: by how much that is shorter than it could be.
        tensor: its bytes, if those were asked for.
        most_bytes: how many those could be.
        varies: whether they may be fewer.
    """

    text: bytes
    missing_bytes: int
    tensor: memoryview | None = None
    most_bytes: int = 0
    varies: bool = False


def _encode(card: ModelCard, wanted: WantedOutput, array: Array) -> _Output:
    widest = WIDEST.get(dtype_name(array))
    if wanted.classes:
        array, widest = best_classes(card, wanted.name, array, wanted.classes)
    entry: dict[str, object] = {
        "name": wanted.name,
        "datatype": datatype_of(wanted.name, array),
        "shape": list(array.shape),
    }
    if wanted.binary:
        tensor = to_binary(array)
        size = str(len(tensor))
        text = _dumps(entry | {"parameters": {"binary_data_size": len(tensor)}})
        varies = wanted.classes > 0
        most_bytes = array.size * (LENGTH_BYTES + (widest or 0)) if varies else len(tensor)
        return _Output(text, _SIZE_DIGITS - len(size), tensor, most_bytes, varies)
    if widest is None:
        _check_strings(wanted.name, array)
    data = json_text(wanted.name, array)
    missing_bytes = array.size * (widest + 1) - len(data) if widest else 0
    return _Output(_dumps(entry)[:-1] + b',"data":[' + data + b"]}", missing_bytes)


def _check_strings(name: str, array: Array) -> None:
    """A model's own strings may have any length."""
    size = sum(map(len, array.reshape(-1).tolist()))
    if size > MAX_JSON_BYTES:
        raise InputError(
            f"output {name!r} holds {size} bytes of text, as JSON at most {MAX_JSON_BYTES} are to "
            "be had; ask for it with 'binary_data'"
        )


def _dumps(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
