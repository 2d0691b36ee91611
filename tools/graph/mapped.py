"""Reads an ONNX file without copying its weights: they stay in the file, mapped into memory.

A protobuf parser copies every weight. Here only the frame of the message is walked,
and what is parsed is the model without the bytes of its large initializers. Those are
described as external data that lies in the model's own file, which onnxruntime maps too.

Source of the field numbers: onnx.proto; of the frame: the Protocol Buffers encoding guide.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from tools.errors import ModelError
from tools.graph.external import External, has_external, settle_external
from tools.graph.version import readable
from tools.supplied import open_regular, open_supplied

LARGE_BYTES: Final = 1024
"""Weights from this size on stay in the file."""

_MODEL_GRAPH: Final = 7
_GRAPH_INITIALIZER: Final = 5
_TENSOR_TYPE: Final = 2
_TENSOR_RAW: Final = 9
_TENSOR_LOCATION: Final = 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class MappedModel:
    """A model file as far as it was read.

    Attributes:
        proto: the model; large weights are external data, those of the file itself too. No
            other tensor is.
        own: indices of the initializers that lie in the model's file.
        path: the file.
        has_external: whether the file names other files, for any tensor.
        rewritten: whether the file is newer than onnxruntime reads; see `tools.graph.version`.
    """

    proto: onnx.ModelProto
    own: tuple[int, ...]
    path: Path
    has_external: bool = False
    rewritten: bool = False

    def without_weights(self) -> onnx.ModelProto:
        """Gives a copy whose external weights are inputs, for checks that don't look at weights.

        Raises:
            ValidationError: when a weight in the file hasn't the size that its shape asks for.
        """
        for index in self.own:
            _check_size(self.proto.graph.initializer[index])
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        graph = proto.graph
        given = {value.name for value in graph.input}
        for index in reversed(range(len(graph.initializer))):
            tensor = graph.initializer[index]
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                continue
            if tensor.name not in given:
                graph.input.append(
                    onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
            del graph.initializer[index]
        return proto

    def to_ir(self, folder: Path | None = None) -> ir.Model:
        """Gives the model with its weights as views of the file; external ones stay external.

        Args:
            folder: where external data lie, if not beside the file.
        """
        model = ir.from_proto(self.proto)
        ir.external_data.set_base_dir(model.graph, folder or self.path.parent)
        if self.own:
            own = {self.proto.graph.initializer[index].name for index in self.own}
            with self.path.open("rb") as file:
                _map_tensors(model, file, own)
        return model


def read_mapped(
    path: Path, folder: Path | None = None, allowed: Collection[str] | None = None
) -> MappedModel:
    """Reads a model file.

    Args:
        path: the file.
        folder: where external data lie, if not beside the file.
        allowed: see `tools.graph.external.settle_external`.

    Raises:
        DecodeError: when it isn't a protobuf message of an ONNX model, or is cut off.
        OSError: when it can't be read.
        ModelError: when it names files that it may not; when it is newer than onnxruntime reads
            and can't be said in an older version.
    """
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        frame = _Frame(data)
        content = frame.model()
    proto = onnx.ModelProto.FromString(content)
    # What onnx.proto doesn't have can't be checked, so nobody gets to read it.
    proto.DiscardUnknownFields()
    try:
        others = has_external(proto)
        settle_external(proto, folder or path.parent, allowed)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    for index, (offset, length) in frame.places.items():
        tensor = proto.graph.initializer[index]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        External(path.name, offset, length).write(tensor)
    own = {proto.graph.initializer[index].name for index in frame.places}
    try:
        found = readable(proto)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    places = (i for i, tensor in enumerate(found.graph.initializer) if tensor.name in own)
    return MappedModel(found, tuple(places), path, others, found is not proto)


def read_light(path: Path) -> bytes:
    """Gives a model whose large weights are external data, those in its own file too."""
    content: bytes = read_mapped(path).proto.SerializeToString()
    return content


def map_external(model: ir.Model) -> None:
    """Turns external weights into views of their files; each file is mapped once.

    Views stay valid when a file is removed or replaced. Element types that several share a
    byte are copied.

    Raises:
        ModelError: when a file can't be opened without following links.
    """
    places: dict[tuple[Path, str], set[str]] = {}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            place = Path(tensor.base_dir), str(tensor.location)
            places.setdefault(place, set()).add(value.name or "")
    for (folder, name), tensors in places.items():
        with open_supplied(folder, name) as file:
            _map_tensors(model, file, tensors)


def _map_tensors(model: ir.Model, file: BufferedReader, names: Set[str]) -> None:
    size = file.seek(0, 2)
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    for name in names:
        value = model.graph.initializers[name]
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = _view(tensor, content)


def _view(tensor: ir.ExternalTensor, content: mmap.mmap | bytes) -> ir.TensorProtocol:
    if tensor.dtype == ir.DataType.STRING:
        raise ValueError(f"tensor {tensor.name!r} holds strings, which can't be external data")
    if tensor.dtype.bitwidth < 8 or not tensor.nbytes:
        return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
    array = np.frombuffer(content, tensor.dtype.numpy(), tensor.size, tensor.offset or 0)
    shaped = array.reshape(tuple(int(size) for size in tensor.shape.numpy()))
    return ir.Tensor(shaped, dtype=tensor.dtype, name=tensor.name)


def _check_size(tensor: onnx.TensorProto) -> None:
    length = next(int(each.value) for each in tensor.external_data if each.key == "length")
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    expected = item
    for size in tensor.dims:
        expected *= size
    if length != expected:
        raise onnx.checker.ValidationError(
            f"initializer {tensor.name!r} has {length} bytes, its shape {list(tensor.dims)} "
            f"asks for {expected}"
        )


class _Frame:
    """Copies a model's message without the bytes of large initializers.

    Attributes:
        places: offset and length of those bytes, by the initializer's index.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._initializers = 0
        self.places: dict[int, tuple[int, int]] = {}

    def model(self) -> bytes:
        """Gives the message; graphs given in several pieces are merged as protobuf does."""
        pieces: list[bytes] = []
        for number, wire, start, value, stop in self._fields(0, len(self._data)):
            if number == _MODEL_GRAPH and wire == _BYTES:
                graph = self._graph(value, stop)
                pieces += field_head(_MODEL_GRAPH, len(graph)), graph
            else:
                pieces.append(self._data[start:stop])
        return b"".join(pieces)

    def _graph(self, start: int, stop: int) -> bytes:
        pieces: list[bytes] = []
        for number, wire, begin, value, end in self._fields(start, stop):
            if number == _GRAPH_INITIALIZER and wire == _BYTES:
                tensor = self._tensor(value, end)
                pieces += field_head(_GRAPH_INITIALIZER, len(tensor)), tensor
                self._initializers += 1
            else:
                pieces.append(self._data[begin:end])
        return b"".join(pieces)

    def _tensor(self, start: int, stop: int) -> bytes:
        if stop - start <= LARGE_BYTES:
            return self._data[start:stop]
        pieces: list[bytes] = []
        raw: list[tuple[int, int]] = []
        mappable = False
        for number, wire, begin, value, end in self._fields(start, stop):
            if number == _TENSOR_RAW and wire == _BYTES:
                raw.append((value, end - value))
                continue
            if number == _TENSOR_TYPE and wire == _VARINT:
                mappable = _is_mappable(self._varint(value, end)[0])
            if number == _TENSOR_LOCATION:
                return self._data[start:stop]
            pieces.append(self._data[begin:end])
        if len(raw) != 1 or not mappable or raw[0][1] < LARGE_BYTES:
            return self._data[start:stop]
        self.places[self._initializers] = raw[0]
        return b"".join(pieces)

    def _fields(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Gives number, wire type, start, start of the value and end of each field."""
        here = start
        while here < stop:
            tag, value = self._varint(here, stop)
            wire = tag & 7
            if wire == _BYTES:
                length, value = self._varint(value, stop)
                end = value + length
            elif wire == _VARINT:
                end = self._varint(value, stop)[1]
            elif wire in (_FIXED64, _FIXED32):
                end = value + (8 if wire == _FIXED64 else 4)
            else:
                raise DecodeError(f"wire type {wire} at byte {here}")
            if end > stop:
                raise DecodeError(f"a field at byte {here} ends at {end}, its message at {stop}")
            yield tag >> 3, wire, here, value, end
            here = end

    def _varint(self, here: int, stop: int) -> tuple[int, int]:
        """Gives a variable-length number and where it ends."""
        result = 0
        for place, byte in enumerate(self._data[here : min(here + 10, stop)]):
            result |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return result, here + place + 1
        raise DecodeError(f"no number at byte {here}")


def _is_mappable(data_type: int) -> bool:
    """Says whether elements have whole bytes, so that a view of the file is the tensor."""
    try:
        found = ir.DataType(data_type)
    except ValueError:
        return False
    return found not in (ir.DataType.UNDEFINED, ir.DataType.STRING) and found.bitwidth >= 8


def field_head(number: int, length: int) -> bytes:
    """Gives what stands before a field of so many bytes."""
    return _varint(number << 3 | _BYTES) + _varint(length)


def _varint(value: int) -> bytes:
    """Writes a number as protobuf does: seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
