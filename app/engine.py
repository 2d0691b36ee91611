"""The only import of onnxruntime.

A partition's graph has its weights as inputs, so a session holds no weights;
they are bound as pointers into the runner's buffer. Nothing is optimised at
run time: the graphs were optimised when the bundle was written.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import graph_check
from app.manifest import PartitionLayout
from app.tensors import BFLOAT16, Array, TensorSpec, dtype_name

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
    "float8e4m3fn": 17,
    "float8e4m3fnuz": 18,
    "float8e5m2": 19,
    "float8e5m2fnuz": 20,
    "uint4": 21,
    "int4": 22,
    "float4e2m1": 23,
    "float8e8m0": 24,
    "uint2": 25,
    "int2": 26,
}
_BFLOAT16: Final = "tensor(bfloat16)"

_DTYPES: Final = {"float": "float32", "double": "float64"}
"""Element types that onnxruntime calls by another name."""

_NEXT_POWER_OF_TWO: Final = 0
"""Value of onnxruntime's ArenaExtendStrategy."""

_ARENA_BYTES: Final = 16 << 20
"""First region of the allocator. Regions of the size of each request fragment: DenseNet-121 then
touches 40 MB where this way touches 13."""

_ARENA_WASTE_BYTES: Final = 64
"""Most bytes that an allocation may be larger than asked for."""

_EXTERNAL_FOLDER: Final = "session.model_external_initializers_file_folder_path"

_LEVELS: Final = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


EngineError = graph_check.EngineError


class OrtEngine:
    """Opens sessions that share thread pool, allocator and, where graphs are equal, structure.

    Args:
        threads: threads that one run may use. One needs no pool; more share one pool of the
            process, whose size the first engine decides.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._sessions: dict[bytes, ort.InferenceSession] = {}
        _prepare_process(threads)

    def open(self, graph: bytes, layout: PartitionLayout) -> OrtSession:
        """Opens a partition; equal graphs share one session.

        Args:
            graph: ONNX bytes whose inputs are the layout's inputs, then its weights, in order,
                and whose outputs are the layout's, in order. Their names don't matter.
            layout: the tensors and places of the weights.

        Raises:
            EngineError: when the graph is refused, here or there, or doesn't fit the layout.
        """
        digest = hashlib.sha256(graph).digest()
        session = self._sessions.get(digest)
        if session is None:
            graph_check.check_graph(graph)
            session = self._sessions[digest] = _session(graph, self._options())
        expected = len(layout.inputs) + len(layout.weights), len(layout.outputs)
        actual = len(session.get_inputs()), len(session.get_outputs())
        if actual != expected:
            raise EngineError(f"expected {expected} inputs and outputs, the graph has {actual}")
        return OrtSession(session, layout)

    def wrap(self, array: Array) -> Any:
        """Makes a value of an array; numeric arrays are not copied.

        onnxruntime makes no values of strings, only runs on arrays of them, so these stay arrays.
        """
        return _wrapped(array)

    def unwrap(self, value: Any) -> Array:
        """Gives a value's content as an array; numeric ones share its memory and keep it alive.

        bfloat16 is copied.
        """
        return _unwrapped(value)

    def size_bytes(self, value: Any) -> int:
        """Gives the size of a value's tensor in bytes; 0 for strings and sequences."""
        if isinstance(value, np.ndarray):
            return 0
        if not value.is_tensor() or value.data_type() == "tensor(string)":
            return 0
        return int(value.tensor_size_in_bytes())

    def _options(self) -> ort.SessionOptions:
        options = session_options("none", self._threads)
        # An arena and a memory pattern of its own would keep every session's largest activations.
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Were there external data after all, nothing could lie below a device.
        options.add_session_config_entry(_EXTERNAL_FOLDER, "/dev/null/none")
        options.enable_mem_pattern = False
        # The order of the file is the one whose memory was predicted; onnxruntime's own touched
        # 16 MiB where ResNet-50 needs 13.
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        return options


class OrtSession:
    """One partition: a resident structure, and where its weights lie.

    A binding is kept for every buffer that weights come in, so that binding them again costs
    nothing. Inputs and outputs are bound per run: kept ones would outlive their release.
    """

    def __init__(self, session: ort.InferenceSession, layout: PartitionLayout) -> None:
        self._session = session
        self._layout = layout
        names = [each.name for each in session.get_inputs()]
        self._inputs = names[: len(layout.inputs)]
        self._weights = names[len(layout.inputs) :]
        self._outputs = [each.name for each in session.get_outputs()]
        self._bindings: dict[int, ort.IOBinding] = {}
        self._nothing = ort.OrtValue.ortvalue_from_numpy(np.zeros(1, dtype=np.float32))

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
            inputs = [values[spec.name] for spec in self._layout.inputs]
            has_arrays = any(isinstance(value, np.ndarray) for value in inputs)
            run = self._run_with_arrays if has_arrays else self._run_bound
            outputs = run(inputs, weights)
        except Exception as error:
            self._bindings.clear()
            raise EngineError(str(error)) from error
        return dict(zip((spec.name for spec in self._layout.outputs), outputs, strict=True))

    def _run_bound(self, inputs: Sequence[Any], weights: NDArray[np.uint8]) -> Sequence[Any]:
        binding = self._binding(weights)
        for name, value in zip(self._inputs, inputs, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        outputs: Sequence[Any] = binding.get_outputs()
        self._unbind(binding)
        return outputs

    def _run_with_arrays(self, inputs: Sequence[Any], weights: NDArray[np.uint8]) -> list[Any]:
        """Strings can't be bound; outputs come as arrays then."""
        feeds = dict(zip(self._inputs, inputs, strict=True))
        for name, weight in zip(self._weights, self._layout.weights, strict=True):
            raw = weights[weight.offset : weight.offset + weight.size_bytes]
            feeds[name] = _value_over(raw, weight.dtype, weight.shape)
        return [_wrapped(array) for array in self._session.run(self._outputs, feeds)]

    def _unbind(self, binding: ort.IOBinding) -> None:
        """A kept binding would keep the tensors of this run; clearing it would lose the weights."""
        binding.clear_binding_outputs()
        for name in self._inputs:
            binding.bind_ortvalue_input(name, self._nothing)

    def _binding(self, weights: NDArray[np.uint8]) -> ort.IOBinding:
        address = weights.ctypes.data
        binding = self._bindings.get(address)
        if binding is None:
            binding = self._bindings[address] = self._session.io_binding()
            for name, weight in zip(self._weights, self._layout.weights, strict=True):
                element_type = _ELEMENT_TYPES[weight.dtype]
                place = address + weight.offset
                binding.bind_input(name, "cpu", 0, element_type, weight.shape, place)
        return binding


class WholeModel:
    """A model as its owner has it: one session, weights inside. The reference to compare with.

    Args:
        model: the ONNX file, with external data beside it if it has any, or its bytes.
        optimization: a key of `app.manifest.OPTIMIZATIONS`.
        threads: threads that one run may use.
        prepack: whether kernels may copy weights into a form of their own, as onnxruntime does
            by default; off, the whole model runs the same kernels as the partitions.
    """

    def __init__(
        self, model: Path | bytes, optimization: str, threads: int = 1, *, prepack: bool = False
    ) -> None:
        _prepare_process(threads)
        source = model if isinstance(model, bytes) else str(model)
        self._session = _session(source, session_options(optimization, threads, prepack=prepack))

    @property
    def outputs(self) -> list[TensorSpec]:
        """What onnxruntime tells of the outputs before any run; a size that it can't tell is "".

        Sequences and optionals are left out.
        """
        return [
            TensorSpec(
                each.name,
                _DTYPES.get(found[1], found[1]),
                tuple(size if isinstance(size, int) else "" for size in each.shape),
            )
            for each in self._session.get_outputs()
            if (found := re.fullmatch(r"tensor\((\w+)\)", each.type))
        ]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model and gives all its outputs by name.

        Raises:
            EngineError: when onnxruntime refuses the inputs or a kernel fails.
        """
        types = {each.name: each.type for each in self._session.get_inputs()}
        feeds = {
            name: _wrapped(array) if types.get(name) == _BFLOAT16 else array
            for name, array in inputs.items()
        }
        outputs = self._session.get_outputs()
        names = [each.name for each in outputs]
        try:
            if any(each.type == _BFLOAT16 for each in outputs):
                values = self._session.run_with_ort_values(names, _as_values(feeds))
            else:
                values = self._session.run(names, feeds)
            return {name: _unwrapped(value) for name, value in zip(names, values, strict=True)}
        except Exception as error:
            raise EngineError(str(error)) from error


def _as_values(feeds: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: ort.OrtValue.ortvalue_from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in feeds.items()
    }


def _wrapped(array: Array) -> Any:
    dtype = dtype_name(array)
    if dtype == "string":
        return array
    if dtype != "bfloat16":
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).reshape(array.shape).view(np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ELEMENT_TYPES[dtype])


def _unwrapped(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if not value.is_tensor() or value.data_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    # onnxruntime makes no array of bfloat16, only tells where its bytes are.
    size_bytes = value.tensor_size_in_bytes()
    copy = ctypes.string_at(value.data_ptr(), size_bytes) if size_bytes else b""
    return np.frombuffer(copy, BFLOAT16).reshape(value.shape())


def _value_over(raw: NDArray[np.uint8], dtype: str, shape: Sequence[int]) -> Any:
    """Makes a value over a weight's bytes without a copy."""
    # Of types that numpy doesn't have, onnxruntime takes the bits.
    carrier = "uint8" if dtype.startswith("float8") else dtype.replace("bfloat16", "uint16")
    array = raw.view(carrier).reshape(shape)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ELEMENT_TYPES[dtype])


def session_options(
    optimization: str, threads: int, *, prepack: bool = False
) -> ort.SessionOptions:
    """Makes the options that every session has.

    Prepacking is off by default: it copies the weights.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[optimization]
    options.log_severity_level = 3
    # Bytes that are a message can also look like onnxruntime's own format, which it would prefer.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if threads == 1:
        options.inter_op_num_threads = options.intra_op_num_threads = 1
    else:
        options.use_per_session_threads = False
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    # Between two partitions there is time in which spinning threads would keep a core from the
    # loader.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


@cache
def _prepare_process(threads: int) -> None:
    """Makes what all sessions of the process share; onnxruntime allows it once."""
    if threads > 1:
        ort.set_global_thread_pool_sizes(threads, 1)
    _shared_allocator()


@cache
def _shared_allocator() -> None:
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    # One region for all activations, so that freed neighbours become one piece again, and no
    # piece larger than asked for. Pages that were never touched cost nothing.
    arena = ort.OrtArenaCfg(0, _NEXT_POWER_OF_TWO, _ARENA_BYTES, _ARENA_WASTE_BYTES)
    ort.create_and_register_allocator(memory, arena)


def optimize(model: bytes, folder: Path, target: Path, optimization: str) -> None:
    """Writes the graph that onnxruntime would run.

    External weights that it leaves alone stay where they are; what it makes of others is inside.

    Args:
        model: an ONNX model.
        folder: where the model's external data lie.
        target: where the optimised ONNX file goes.
        optimization: "none" to only copy what the model means, "extended" for
            rewrites that every CPU runs, "all" for those of this CPU class too.

    Raises:
        EngineError: when onnxruntime refuses the model.
    """
    options = session_options(optimization, 1)
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry(_EXTERNAL_FOLDER, str(folder))
    _session(model, options)


def _session(model: bytes | str, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(str(error)) from error
