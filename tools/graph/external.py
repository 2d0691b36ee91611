"""A model's tensors whose bytes lie in other files.

Any tensor of a message may name a file: initializers, attributes, sparse values, in branches and
in functions. They are found by the message's own description, so that none is forgotten. Those of
the main graph's initializers stay in their files; all others are taken into the model, because
what reads a model looks for them in places of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import EncodeError, Message

from tools.errors import ModelError
from tools.supplied import copy_supplied, inner_name, open_supplied

_MOST_TAKEN_IN: Final = 1 << 30
"""Bytes of external data that attributes and branches may have: a message holds at most 2 GiB."""

_MOST_DIGITS: Final = 18

_IN_MEMORY: Final = "_ORT_MEM_ADDR_"
"""onnxruntime takes such a "file" for an address in its own memory."""


@dataclass(frozen=True, slots=True)
class External:
    """Where the bytes of a tensor lie.

    Attributes:
        name: of the file, below the model's folder.
        offset: of the first byte.
        length: in bytes.
    """

    name: str
    offset: int
    length: int

    def write(self, tensor: onnx.TensorProto, name: str | None = None) -> None:
        """Writes it into a tensor, in the one form that everybody reads alike."""
        del tensor.external_data[:]
        entries = {"location": name or self.name, "offset": self.offset, "length": self.length}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))


def settle_external(
    model: onnx.ModelProto, folder: Path, allowed: Collection[str] | None = None
) -> None:
    """Checks all references to files and takes in what isn't a main graph's initializer.

    Args:
        model: changed: references are written anew, inner tensors get their bytes.
        folder: the model's own; nothing is looked for elsewhere.
        allowed: the only files that the main graph's initializers may lie in, and no other
            tensor in any; None allows all below the folder.

    Raises:
        ModelError: when a reference leads out of the folder, to a link or to what isn't a regular
            file, or the file is too short.
    """
    for tensor in model.graph.initializer:
        if (external := read_external(tensor)) is None:
            continue
        if allowed is not None and external.name not in allowed:
            raise ModelError(
                f"tensor {tensor.name!r} lies in {external.name!r}, a file that isn't its own"
            )
        _check_length(tensor, external, folder)
        external.write(tensor)
    taken_in = 0
    for tensor in _inner_tensors(model):
        if (external := read_external(tensor)) is None:
            continue
        if allowed is not None:
            raise ModelError(f"a tensor inside of an operator lies in the file {external.name!r}")
        taken_in += external.length
        if taken_in > _MOST_TAKEN_IN:
            raise ModelError(
                f"attributes and branches have more than {_MOST_TAKEN_IN} bytes of external data; "
                "make them initializers of the main graph"
            )
        _check_length(tensor, external, folder)
        with open_supplied(folder, external.name) as file:
            file.seek(external.offset)
            content = file.read(external.length)
        tensor.ClearField("data_location")
        del tensor.external_data[:]
        tensor.raw_data = content


def read_external(tensor: onnx.TensorProto) -> External | None:
    """Gives where a tensor's bytes lie; None when they are inside of the model.

    Raises:
        ModelError: when the tensor doesn't say it in a way that has one meaning.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        del tensor.external_data[:]
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise ModelError(f"tensor {tensor.name!r} says twice where its external data lie")
    name = inner_name(entries.get("location", ""))
    if _IN_MEMORY in name:
        raise ModelError(f"tensor {tensor.name!r} names a place in memory as its external data")
    size = _size_bytes(tensor)
    offset = _number(tensor, entries, "offset", 0)
    length = _number(tensor, entries, "length", size)
    if length < size:
        raise ModelError(
            f"tensor {tensor.name!r} has {length} bytes of external data, its shape "
            f"{list(tensor.dims)} asks for {size}"
        )
    return External(name, offset, length)


def data_file(name: str) -> str:
    """Gives the name of the file beside an ONNX file that large weights are written to."""
    return f"{name}.data"


def copy_with_own_names(source: Path, target: Path) -> None:
    """Copies a model with its external data; no file of the copy has a name of the supplier's.

    Args:
        source: the model's file.
        target: its new one; external data go beside it as data-0.bin, data-1.bin and so on.

    Raises:
        ModelError: as `settle_external`; or when it doesn't fit in one message.
    """
    model = onnx.ModelProto.FromString(source.read_bytes())
    settle_external(model, source.parent)
    names: dict[str, str] = {}
    for tensor in model.graph.initializer:
        if (external := read_external(tensor)) is not None:
            name = names.setdefault(external.name, f"data-{len(names)}.bin")
            external.write(tensor, name)
    try:
        target.write_bytes(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelError(f"{source}: doesn't fit in one file of 2 GiB: {error}") from error
    for supplied, name in names.items():
        copy_supplied(source.parent, supplied, target.parent / name)


def has_external(model: onnx.ModelProto) -> bool:
    """Says whether any tensor of a model lies in another file."""
    tensors = (*model.graph.initializer, *_inner_tensors(model))
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors)


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Gives all operators, those of branches and functions too."""
    return (each for each in _all_messages(model) if isinstance(each, onnx.NodeProto))


def has_sparse(model: onnx.ModelProto) -> bool:
    """Says whether a model holds a sparse tensor, as an initializer or as an attribute."""
    return any(isinstance(each, onnx.SparseTensorProto) for each in _all_messages(model))


def _all_messages(model: onnx.ModelProto) -> Iterator[Message]:
    for field, value in model.ListFields():
        yield from _messages(field, value)


def _inner_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Gives all tensors at any depth but the main graph's initializers."""
    fields = [each for each in model.ListFields() if each[0].name != "graph"]
    fields += [each for each in model.graph.ListFields() if each[0].name != "initializer"]
    for field, value in fields:
        for message in _messages(field, value):
            if isinstance(message, onnx.TensorProto):
                yield message


def _messages(field: FieldDescriptor, value: Any) -> Iterator[Message]:
    """Gives a field's messages and, by the format's own description, all inside of them."""
    if field.message_type is None:
        return
    for message in value if field.is_repeated else (value,):
        yield message
        for inner_field, inner_value in message.ListFields():
            yield from _messages(inner_field, inner_value)


def _size_bytes(tensor: onnx.TensorProto) -> int:
    """Gives how many bytes a tensor's shape and element type ask for."""
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        raise ModelError(
            f"tensor {tensor.name!r} is of type {dtype.name}, which can't be external data"
        )
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"tensor {tensor.name!r} has the shape {list(tensor.dims)}")
    return (prod(int(size) for size in tensor.dims) * int(dtype.bitwidth) + 7) // 8


def _number(tensor: onnx.TensorProto, entries: Mapping[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise ModelError(
            f"tensor {tensor.name!r}: expected a number as the {key} of its external data, got "
            f"{text[:40]!r}"
        )
    return int(text)


def _check_length(tensor: onnx.TensorProto, external: External, folder: Path) -> None:
    end = external.offset + external.length
    try:
        with open_supplied(folder, external.name) as file:
            size = file.seek(0, 2)
    except OSError as error:
        raise ModelError(f"external data {external.name!r}: {error.strerror}") from error
    if size < end:
        raise ModelError(
            f"external data {external.name!r} ends before byte {end}, which tensor "
            f"{tensor.name!r} needs"
        )
