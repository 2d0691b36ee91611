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
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
warnings.filterwarnings("ignore", "Unsupported platform", UserWarning)  # it doesn't know Occlum
import onnxruntime as ort  # noqa: E402, TID251 - this is the one place

_FATAL: Final = 4
"""Of its severities: the only one that it may log. Its errors name values from tensors."""

ort.set_default_logger_severity(_FATAL)

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


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor or sequence, and who owns its memory. Made nowhere but in this module.

    An OrtValue made over an array doesn't keep the array: neither it nor a numpy view of it may
    outlive the array. So such a value carries its array, is read through it, and whatever
    onnxruntime gives back that lies in it is copied (`_owning`).

    Attributes:
        ort_value: what onnxruntime runs on; None for strings, which it only takes as arrays.
        array: who owns the memory; None when onnxruntime does.
    """

    ort_value: ort.OrtValue | None
    array: Array | None = None


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

    def wrap(self, array: Array) -> Value:
        """Makes a value of an array; numeric arrays are not copied, the value keeps them alive.

        onnxruntime makes no values of strings, only runs on arrays of them, so these stay arrays.
        """
        return _wrapped(array)

    def unwrap(self, value: Value) -> Array:
        """Gives a value's content as an array that owns its memory, or as the array it was made of.

        An answer may live for long, in the hands of a client that doesn't take it: a view would
        keep the allocator's region from being used again, and from being given back.
        """
        return _array_of(value)

    def size_bytes(self, value: Value) -> int:
        """Gives the size of a value's tensor in bytes; 0 for strings and sequences."""
        ort_value = value.ort_value
        if ort_value is None or not _has_address(ort_value):
            return 0
        return int(ort_value.tensor_size_in_bytes())

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

    def run(self, values: Mapping[str, Value], weights: NDArray[np.uint8]) -> dict[str, Value]:
        """Runs the partition.

        Args:
            values: values by name, at least the layout's inputs.
            weights: the decrypted weights object; read in place, owned by the caller,
                unchanged until this returns.

        Returns:
            The layout's outputs by name. None of them looks at `weights` or at an input's array.

        Raises:
            EngineError: when a kernel fails.
        """
        try:
            inputs = [values[spec.name] for spec in self._layout.inputs]
            has_strings = any(value.ort_value is None for value in inputs)
            run = self._run_with_arrays if has_strings else self._run_bound
            outputs = run(inputs, weights)
        except Exception as error:
            self._bindings.clear()
            raise EngineError(str(error)) from error
        return dict(zip((spec.name for spec in self._layout.outputs), outputs, strict=True))

    def _run_bound(self, inputs: Sequence[Value], weights: NDArray[np.uint8]) -> list[Value]:
        binding = self._binding(weights)
        for name, value in zip(self._inputs, inputs, strict=True):
            binding.bind_ortvalue_input(name, value.ort_value)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        borrowed = [weights, *(value.array for value in inputs if value.array is not None)]
        outputs = [_owning(output, borrowed) for output in binding.get_outputs()]
        self._unbind(binding)
        return outputs

    def _run_with_arrays(self, inputs: Sequence[Value], weights: NDArray[np.uint8]) -> list[Value]:
        """Strings can't be bound. Outputs come as arrays then.

        These own their memory: onnxruntime's binding copies what lies in a feed.
        """
        feeds = {
            name: value.array if value.ort_value is None else value.ort_value
            for name, value in zip(self._inputs, inputs, strict=True)
        }
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
        outputs = self._session.get_outputs()
        names = [each.name for each in outputs]
        try:
            if not any(kind == _BFLOAT16 for kind in (*types.values(), *(o.type for o in outputs))):
                return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
            feeds = {name: _wrapped(array) for name, array in inputs.items()}
            ort_values = {name: value.ort_value for name, value in feeds.items()}
            results = self._session.run_with_ort_values(names, ort_values)
            borrowed = [value.array for value in feeds.values() if value.array is not None]
            arrays = [_array_of(_owning(result, borrowed)) for result in results]
        except Exception as error:
            raise EngineError(str(error)) from error
        return dict(zip(names, arrays, strict=True))


def _wrapped(array: Array) -> Value:
    dtype = dtype_name(array)
    if dtype == "string":
        return Value(None, array)
    # What onnxruntime can't read in place would be a copy that nobody owns.
    array = np.ascontiguousarray(array).reshape(array.shape)
    if dtype != "bfloat16":
        return Value(ort.OrtValue.ortvalue_from_numpy(array), array)
    bits = array.view(np.uint16)
    element_type = _ELEMENT_TYPES[dtype]
    return Value(ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, element_type), array)


def _owning(output: ort.OrtValue, borrowed: Sequence[Array]) -> Value:
    """Makes a value of an output, of a copy where its bytes lie in memory of somebody else's.

    A graph may give out one of its inputs. The weights' buffer is overwritten by the next
    partition, a request's array is gone with the request. Sequences are copied by onnxruntime's
    operators: no graph input is one.
    """
    if not _has_address(output):
        return Value(output)
    address, size_bytes = output.data_ptr(), output.tensor_size_in_bytes()
    starts = ((memory.ctypes.data, memory.nbytes) for memory in borrowed)
    if not any(start <= address < start + length for start, length in starts):
        return Value(output)
    copy = ort.OrtValue.ortvalue_from_shape_and_type(output.shape(), output.element_type(), "cpu")
    ctypes.memmove(copy.data_ptr(), address, size_bytes)
    return Value(copy)


def _array_of(value: Value) -> Array:
    if value.array is not None:
        return value.array
    ort_value = value.ort_value
    if ort_value is None:
        raise EngineError("a value without content")
    if not _has_address(ort_value) or ort_value.data_type() != _BFLOAT16:
        return np.array(ort_value.numpy())
    # onnxruntime makes no array of bfloat16, only tells where its bytes are.
    size_bytes = ort_value.tensor_size_in_bytes()
    copy = ctypes.string_at(ort_value.data_ptr(), size_bytes) if size_bytes else b""
    return np.frombuffer(copy, BFLOAT16).reshape(ort_value.shape())


def _has_address(ort_value: ort.OrtValue) -> bool:
    """Whether a value is a tensor of plain bytes: no strings, sequence or optional."""
    return bool(ort_value.is_tensor()) and ort_value.data_type() != "tensor(string)"


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
    options.log_severity_level = _FATAL
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
