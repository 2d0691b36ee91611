"""The only import of onnxruntime.

A partition's graph has its weights as inputs, so a session holds no weights;
they are bound as pointers into the runner's buffer. Nothing is optimised at
run time: the graphs were optimised when the bundle was written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.manifest import PartitionLayout
from app.tensors import Array

# Read while onnxruntime is imported: otherwise it keeps a device id and usage data under $HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort  # noqa: TID251 - this is the one place

VERSION: Final[str] = ort.__version__

_ELEMENT_TYPES: Final[Mapping[str, int]] = {
    # onnx.proto, TensorProto.DataType
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "complex64": 14,
    "complex128": 15,
    "bfloat16": 16,
}
_LEVELS: Final = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class EngineError(Exception):
    """onnxruntime refused a graph or failed in it; its own errors share no base class."""


class OrtEngine:
    """Opens sessions that share one set of options.

    Args:
        threads: threads that one run may use; onnxruntime starts `threads - 1` of its own
            for each session, so the image's thread limit has to count them.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def open(self, graph: bytes, layout: PartitionLayout) -> OrtSession:
        """Opens a partition.

        Args:
            graph: ONNX bytes whose weights are graph inputs.
            layout: names of its tensors and places of its weights.

        Raises:
            EngineError: when onnxruntime doesn't accept the graph.
        """
        return OrtSession(_session(graph, self._options()), layout)

    def wrap(self, array: Array) -> Any:
        """Makes an onnxruntime value over an array; numeric arrays are not copied."""
        return ort.OrtValue.ortvalue_from_numpy(array)

    def unwrap(self, value: Any) -> Array:
        """Gives a value's content as an array."""
        array: Array = value.numpy()
        return array

    def size_bytes(self, value: Any) -> int:
        """Gives the size of a value's tensor in bytes; 0 for strings and sequences."""
        if not value.is_tensor() or value.data_type() == "tensor(string)":
            return 0
        return int(value.tensor_size_in_bytes())

    def _options(self) -> ort.SessionOptions:
        options = session_options("none", self._threads)
        # The kernels read weights where the runner put them; an arena would keep
        # the largest activations of every session for ever.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        return options


class OrtSession:
    """One partition's resident structure."""

    def __init__(self, session: ort.InferenceSession, layout: PartitionLayout) -> None:
        self._session = session
        self._layout = layout
        self._binding = session.io_binding()
        self._weights_address: int | None = None

    def run(self, values: Mapping[str, Any], weights: NDArray[np.uint8]) -> dict[str, Any]:
        """Runs the partition.

        Args:
            values: onnxruntime values by name, at least the layout's inputs.
            weights: the decrypted weights object; read in place, owned by the caller,
                unchanged until this returns.

        Returns:
            The layout's outputs by name, each owning its memory.

        Raises:
            EngineError: when a kernel fails.
        """
        try:
            self._bind(values, weights)
            self._session.run_with_iobinding(self._binding)
            outputs = self._binding.get_outputs()
        except Exception as error:
            raise EngineError(str(error)) from error
        finally:
            # A kept binding would pin the boundary tensors past their release.
            self._binding.clear_binding_outputs()
        return dict(zip((spec.name for spec in self._layout.outputs), outputs, strict=True))

    def _bind(self, values: Mapping[str, Any], weights: NDArray[np.uint8]) -> None:
        self._binding.clear_binding_inputs()
        address = weights.ctypes.data
        for weight in self._layout.weights:
            self._binding.bind_input(
                weight.name,
                "cpu",
                0,
                _ELEMENT_TYPES[weight.dtype],
                weight.shape,
                address + weight.offset,
            )
        for spec in self._layout.inputs:
            self._binding.bind_ortvalue_input(spec.name, values[spec.name])
        for spec in self._layout.outputs:
            self._binding.bind_output(spec.name, "cpu")


class WholeModel:
    """A model as its owner has it: one session, weights inside. The reference to compare with.

    Args:
        path: the ONNX file, with external data beside it if it has any.
        optimization: a key of `app.manifest.OPTIMIZATIONS`.
        threads: threads that one run may use.
    """

    def __init__(self, path: Path, optimization: str, threads: int = 1) -> None:
        self._session = _session(str(path), session_options(optimization, threads))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model and gives all its outputs by name.

        Raises:
            EngineError: when onnxruntime refuses the inputs or a kernel fails.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            outputs = self._session.run(names, dict(inputs))
        except Exception as error:
            raise EngineError(str(error)) from error
        return dict(zip(names, outputs, strict=True))


def session_options(optimization: str, threads: int) -> ort.SessionOptions:
    """Makes the options that every session has.

    Prepacking is off: it copies the weights, and the partitions and the whole
    model then run the same kernels.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[optimization]
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def optimize(source: Path, target: Path, optimization: str) -> None:
    """Writes the graph that onnxruntime would run, weights included.

    Args:
        source: an ONNX file.
        target: where the optimised ONNX file goes.
        optimization: "none" to only copy what the model means, "extended" for
            rewrites that every CPU runs, "all" for those of this CPU class too.

    Raises:
        EngineError: when onnxruntime refuses the model.
    """
    options = session_options(optimization, 1)
    options.optimized_model_filepath = str(target)
    _session(str(source), options)


def _session(model: bytes | str, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(str(error)) from error
