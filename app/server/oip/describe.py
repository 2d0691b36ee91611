"""What the server and its models say of themselves: metadata, configuration, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.card import ModelCard
from app.server.oip.datatypes import DATATYPES
from app.serving.models import IndexEntry
from app.serving.statistics import Span, Statistics
from app.tensors import TensorSpec

READY: Final = "READY"
"""The state of a model version that answers."""

EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
"""What `GET /v2` announces: extensions of the protocol that are implemented, nothing else."""

_NS_PER_MS: Final = 1_000_000
_MS_PER_S: Final = 1000


def model_metadata(
    model_id: str, versions: Sequence[str], card: ModelCard, bundle_id: str
) -> dict[str, object]:
    """Gives the protocol's description of a model; variable dimensions are -1."""
    return {
        "name": model_id,
        "versions": list(versions),
        "platform": "onnx_onnxv1",
        "properties": bundle_parameter(bundle_id),
        "inputs": [_tensor(spec) for spec in card.inputs],
        "outputs": [_tensor(spec) for spec in card.outputs],
    }


def repository_entry(entry: IndexEntry) -> dict[str, object]:
    """Gives a version as the repository's index has it; a refused bundle has no id."""
    parameters = {"parameters": bundle_parameter(entry.bundle_id)} if entry.bundle_id else {}
    return {
        "name": entry.name,
        "version": str(entry.version),
        "state": entry.state,
        "reason": entry.reason,
        **parameters,
    }


def bundle_parameter(bundle_id: str) -> dict[str, str]:
    """Gives, as a parameter, which bundle something is of.

    A version may be written twice, and a host may exchange one bundle for the other: the id tells.
    """
    return {"bundle_id": bundle_id}


def model_config(model_id: str, card: ModelCard) -> dict[str, object]:
    """Gives a model as Triton's ModelConfig.

    `max_batch_size` is 0, so that shapes are the whole ones: how large a batch may be is a question
    of memory here, not of a number.
    """
    return {
        "name": model_id,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [_config_tensor(spec) for spec in card.inputs],
        "output": [_config_tensor(spec) for spec in card.outputs],
        "instance_group": [{"name": model_id, "kind": "KIND_CPU", "count": 1}],
    }


def model_statistics(counters: Statistics) -> dict[str, object]:
    """Gives the protocol's form of what one version of a model has done.

    Durations are whole milliseconds of running sums, as in `app.server.metrics`, and the last
    inference a whole second: counts are those of all tenants, who aren't to see each other's
    requests more closely than that.
    """
    return {
        "name": counters.name,
        "version": str(counters.version),
        "last_inference": counters.last_inference_ms // _MS_PER_S * _MS_PER_S,
        "inference_count": counters.success.count,
        "execution_count": sum(span.count for span in counters.batches.values()),
        "inference_stats": {phase: _span(span) for phase, span in counters.spans.items()},
        "batch_stats": [
            {"batch_size": size, "compute_infer": _span(span)}
            for size, span in sorted(counters.batches.items())
        ],
    }


def _sizes(spec: TensorSpec) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in spec.shape or ()]


def _tensor(spec: TensorSpec) -> dict[str, object]:
    datatype = DATATYPES.get(spec.dtype, spec.dtype)
    return {"name": spec.name, "datatype": datatype, "shape": _sizes(spec)}


def _config_tensor(spec: TensorSpec) -> dict[str, object]:
    datatype = DATATYPES.get(spec.dtype, "INVALID")
    kind = "STRING" if datatype == "BYTES" else datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": _sizes(spec)}


def _span(span: Span) -> dict[str, int]:
    return {"count": span.count, "ns": span.ns // _NS_PER_MS * _NS_PER_MS}
