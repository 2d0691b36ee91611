"""The answer to an inference request: JSON, followed by the tensors asked for as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from app.card import ModelCard
from app.server.oip.classification import best_classes
from app.server.oip.datatypes import datatype_of, to_binary
from app.server.oip.metadata import bundle_parameter
from app.server.oip.numbers import to_json
from app.server.oip.request import InferRequest
from app.tensors import Array


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
    described: list[dict[str, object]] = []
    tensors: list[memoryview] = []
    for wanted in request.outputs:
        array = outputs[wanted.name]
        if wanted.classes:
            array = best_classes(card, wanted.name, array, wanted.classes)
        entry: dict[str, object] = {
            "name": wanted.name,
            "datatype": datatype_of(wanted.name, array),
            "shape": list(array.shape),
        }
        if wanted.binary:
            tensors.append(to_binary(array))
            entry["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            entry["data"] = to_json(wanted.name, array)
        described.append(entry)
    answer["outputs"] = described
    header = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    return InferAnswer(header, tuple(tensors), bool(tensors))
