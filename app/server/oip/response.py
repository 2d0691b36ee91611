"""The answer to an inference request: JSON, followed by the tensors asked for as bytes.

TLS shows how long an answer is. So the JSON is padded with blanks: the length of
the whole depends on the model, on shapes and on what was asked for, not on what
the outputs hold. Only strings that a model itself gives are as long as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from app.card import ModelCard
from app.errors import InputError
from app.limits import ANSWER_STEP_BYTES, MAX_JSON_BYTES
from app.server.oip.bounds import check_elements
from app.server.oip.classification import best_classes
from app.server.oip.datatypes import LENGTH_BYTES, datatype_of, to_binary
from app.server.oip.describe import bundle_parameter
from app.server.oip.numbers import WIDEST, json_text
from app.server.oip.request import InferRequest, WantedOutput
from app.tensors import Array, dtype_name


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """An answer on its way to the wire.

    Attributes:
        header: the JSON.
        tensors: what follows it: the outputs that were asked for as bytes, in their order; views of
            their memory.
    """

    header: bytes
    tensors: tuple[memoryview, ...]


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
    shapes = {spec.name: spec.shape or (0,) for spec in card.outputs}
    listed = [shapes[wanted.name] for wanted in request.outputs if wanted.is_listed]
    check_elements(
        sum(
            prod(sizes.get(size, 0) if isinstance(size, str) else size for size in shape)
            for shape in listed
        )
    )


def encode_response(
    model_id: str,
    version: int,
    card: ModelCard,
    request: InferRequest,
    outputs: Mapping[str, Array],
    *,
    bundle_id: str = "",
) -> InferAnswer:
    """Encodes the outputs that the client asked for; they don't change until the answer has left.

    An empty `bundle_id` isn't told.

    Raises:
        InputError: an output can't be had in the form that was asked for.
    """
    answer: dict[str, object] = {"model_name": model_id, "model_version": str(version)}
    if request.id is not None:
        answer["id"] = request.id
    if bundle_id:
        answer["parameters"] = bundle_parameter(bundle_id)
    check_elements(sum(outputs[wanted.name].size for wanted in request.outputs if wanted.is_listed))
    encoded = [_encode(card, wanted, outputs[wanted.name]) for wanted in request.outputs]
    texts = b",".join(text for text, _, _ in encoded)
    header = compact_json(answer)[:-1] + b',"outputs":[' + texts + b"]}"
    tensors = tuple(tensor for _, tensor, _ in encoded if tensor is not None)
    tensors_bytes = sum(map(len, tensors))
    longest = len(header) + tensors_bytes + sum(missing_bytes for _, _, missing_bytes in encoded)
    return InferAnswer(header.ljust(padded_bytes(longest) - tensors_bytes), tensors)


def padded_bytes(longest: int) -> int:
    """Gives to how many bytes a text answer is padded that could have at most so many."""
    return -(-longest // ANSWER_STEP_BYTES) * ANSWER_STEP_BYTES


def padded_line(text: bytes, longest: int = 0) -> bytes:
    """Pads JSON without tensors and ends its line; `longest` bytes are the most it could have."""
    return text.ljust(padded_bytes(max(len(text), longest) + 1) - 1) + b"\n"


def compact_json(value: object) -> bytes:
    """Gives a value as JSON in ASCII, without blanks."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _encode(
    card: ModelCard, wanted: WantedOutput, array: Array
) -> tuple[bytes, memoryview | None, int]:
    """Gives an output's JSON; its bytes, if asked for; how much longer both could be together."""
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
        size = most_size = len(tensor)
        if wanted.classes and widest is not None:
            most_size = array.size * (LENGTH_BYTES + widest)
        missing_bytes = most_size - size + len(str(most_size)) - len(str(size))
        text = compact_json(entry | {"parameters": {"binary_data_size": size}})
        return text, tensor, missing_bytes
    # A model's own strings may have any length.
    if widest is None and (size := sum(map(len, array.reshape(-1).tolist()))) > MAX_JSON_BYTES:
        raise InputError(
            f"output {wanted.name!r} holds {size} bytes of text, as JSON at most {MAX_JSON_BYTES} "
            "are to be had; ask for it with 'binary_data'"
        )
    data = json_text(wanted.name, array)
    missing_bytes = array.size * (widest + 1) - len(data) if widest else 0
    return compact_json(entry)[:-1] + b',"data":[' + data + b"]}", None, missing_bytes
