"""The model configuration extension: a model as Triton's ModelConfig, in JSON."""

from __future__ import annotations

from app.card import ModelCard
from app.server.oip.datatypes import DATATYPES
from app.server.oip.metadata import sizes
from app.tensors import TensorSpec


def model_config(model_id: str, card: ModelCard) -> dict[str, object]:
    """Gives a model's configuration.

    `max_batch_size` is 0, so that shapes are the whole ones: how large a batch may be is a question
    of memory here, not of a number.
    """
    return {
        "name": model_id,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_tensor(spec) for spec in card.inputs],
        "output": [_tensor(spec) for spec in card.outputs],
        "instance_group": [{"name": model_id, "kind": "KIND_CPU", "count": 1}],
    }


def _tensor(spec: TensorSpec) -> dict[str, object]:
    datatype = DATATYPES.get(spec.dtype, "INVALID")
    kind = "STRING" if datatype == "BYTES" else datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": sizes(spec)}
