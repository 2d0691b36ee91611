"""What the server and its models say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.card import ModelCard
from app.server.oip.datatypes import DATATYPES
from app.serving.models import IndexEntry
from app.tensors import TensorSpec

PLATFORM: Final = "onnx_onnxv1"
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


def model_metadata(
    model_id: str, versions: Sequence[str], card: ModelCard, bundle_id: str
) -> dict[str, object]:
    """Gives the protocol's description of a model; variable dimensions are -1."""
    return {
        "name": model_id,
        "versions": list(versions),
        "platform": PLATFORM,
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


def sizes(spec: TensorSpec) -> list[int]:
    """Gives a shape as the protocol has it."""
    return [size if isinstance(size, int) else -1 for size in spec.shape or ()]


def _tensor(spec: TensorSpec) -> dict[str, object]:
    datatype = DATATYPES.get(spec.dtype, spec.dtype)
    return {"name": spec.name, "datatype": datatype, "shape": sizes(spec)}
