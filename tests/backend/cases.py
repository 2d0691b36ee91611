"""The onnx package's own backend test cases: models with inputs and published outputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from app.tensors import BFLOAT16
from tools.graph.summary import EXCHANGED, dtype_name

KINDS: Final = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""The kinds that are complete; "real" has no weights, and each name is a download."""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: unique.
        model: as published.
        inputs: arrays by name; lists for sequences, None for an optional that is empty.
        outputs: the published ones, in the model's order.
        rtol, atol: how far from them an answer may be.
    """

    name: str
    model: onnx.ModelProto
    inputs: Mapping[str, Any]
    outputs: Sequence[Any]
    rtol: float
    atol: float

    @property
    def is_exchangeable(self) -> bool:
        """Whether every input and output is a tensor of a type that requests may have."""
        given = {tensor.name for tensor in self.model.graph.initializer}
        infos = [info for info in self.model.graph.input if info.name not in given]
        return all(_is_exchangeable(info) for info in (*infos, *self.model.graph.output))


@cache
def collect() -> tuple[Case, ...]:
    """Gives all cases, in the order of their names."""
    with warnings.catch_warnings():
        # Some cases divide by zero and overflow on purpose while they are made.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = [each for kind in KINDS for each in load_model_tests(kind=kind)]
    return tuple(sorted((_case(each) for each in found), key=lambda case: case.name))


def _case(published: Any) -> Case:
    model = published.model
    if model is None:
        folder = Path(published.model_dir)
        model = onnx.load(folder / "model.onnx")
        inputs, outputs = (_stored(folder, kind) for kind in ("input", "output"))
    else:
        inputs, outputs = ([_plain(each) for each in tensors] for tensors in published.data_sets[0])
    given = {tensor.name for tensor in model.graph.initializer}
    names = [info.name for info in model.graph.input if info.name not in given]
    # Model cases of the oldest kind list weights as inputs, after the real ones.
    feeds = dict(zip(names, inputs, strict=False))
    return Case(published.name, model, feeds, outputs, published.rtol, published.atol)


def _stored(folder: Path, kind: str) -> list[Any]:
    data = folder / "test_data_set_0"
    count = len(list(data.glob(f"{kind}_*.pb")))
    return [_plain(onnx.load_tensor(str(data / f"{kind}_{number}.pb"))) for number in range(count)]


def _plain(value: Any) -> Any:
    """Gives an array as the appliance takes it: see `app.tensors.BFLOAT16`."""
    if value is None or isinstance(value, list):
        return value
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    array = np.asarray(array)
    if array.dtype.name != "bfloat16":
        return array
    return np.ascontiguousarray(array).view(BFLOAT16).reshape(array.shape)


def _is_exchangeable(info: onnx.ValueInfoProto) -> bool:
    kind = info.type.tensor_type.elem_type
    is_tensor = info.type.HasField("tensor_type")
    return is_tensor and dtype_name(ir.DataType(kind)) in EXCHANGED
