"""Refuses a graph that isn't self-contained, before onnxruntime sees a byte of it.

A graph may name files, and onnxruntime opens them: weights as external data, compiled models in
an attribute. A file's content is neither authenticated nor the model's own, so here the whole
message is walked and everything is refused that isn't known to mean nothing but computing: it is
a list of what is allowed, not of what is forbidden. What two parsers could read in two ways (a
field given twice, a number in more bytes than it needs) is refused too, so that what was checked
is what onnxruntime reads.

Source of the field numbers: onnx.proto; of the frame: the Protocol Buffers encoding guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DEEPEST: Final = 96
"""Messages inside of messages; protobuf itself ends at 100."""

DOMAINS: Final = frozenset(
    (b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft", b"com.microsoft.nchwc")
)
"""Of operators: those that onnxruntime has CPU kernels for."""

IMPORTED_DOMAINS: Final = DOMAINS | {
    b"ai.onnx.preview",
    b"ai.onnx.preview.training",
    b"ai.onnx.training",
    b"com.microsoft.experimental",
    b"com.ms.internal.nhwc",
    b"org.pytorch.aten",
}
"""onnxruntime's optimiser names all domains that it knows, used or not."""

FILE_OPERATORS: Final = frozenset((b"EPContext", b"Snpe"))
"""Operators of onnxruntime that hold or name a compiled model of some device's."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_WIRE: Final = {"int": _VARINT, "double": _FIXED64, "bytes": _BYTES, "float": _FIXED32}

FIELDS: Final[Mapping[str, Mapping[int, str]]] = {
    "ModelProto": {
        1: "int",
        2: "bytes",
        3: "bytes",
        4: "bytes",
        5: "int",
        6: "bytes",
        7: "GraphProto",
        8: "OperatorSetIdProto*",
        14: "StringStringEntryProto*",
    },
    "OperatorSetIdProto": {1: "bytes", 2: "int"},
    "GraphProto": {
        1: "NodeProto*",
        2: "bytes",
        5: "TensorProto*",
        10: "bytes",
        11: "ValueInfoProto*",
        12: "ValueInfoProto*",
        13: "ValueInfoProto*",
        14: "TensorAnnotation*",
        15: "SparseTensorProto*",
        16: "StringStringEntryProto*",
    },
    "NodeProto": {
        1: "bytes*",
        2: "bytes*",
        3: "bytes",
        4: "bytes",
        5: "AttributeProto*",
        6: "bytes",
        7: "bytes",
        8: "bytes",
        9: "StringStringEntryProto*",
    },
    "AttributeProto": {
        1: "bytes",
        2: "float",
        3: "int",
        4: "bytes",
        5: "TensorProto",
        6: "GraphProto",
        7: "float*",
        8: "int*",
        9: "bytes*",
        10: "TensorProto*",
        11: "GraphProto*",
        13: "bytes",
        14: "TypeProto",
        15: "TypeProto*",
        20: "int",
        21: "bytes",
        22: "SparseTensorProto",
        23: "SparseTensorProto*",
    },
    "TensorProto": {
        1: "int*",
        2: "int",
        4: "float*",
        5: "int*",
        6: "bytes*",
        7: "int*",
        8: "bytes",
        9: "bytes",
        10: "double*",
        11: "int*",
        12: "bytes",
        14: "int",
        16: "StringStringEntryProto*",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto", 3: "int*"},
    "StringStringEntryProto": {1: "bytes", 2: "bytes"},
    "TensorAnnotation": {1: "bytes", 2: "StringStringEntryProto*"},
    "ValueInfoProto": {1: "bytes", 2: "TypeProto", 3: "bytes", 4: "StringStringEntryProto*"},
    "TypeProto": {
        1: "TypeProto.Tensor",
        4: "TypeProto.Sequence",
        5: "TypeProto.Map",
        6: "bytes",
        8: "TypeProto.SparseTensor",
        9: "TypeProto.Optional",
    },
    "TypeProto.Tensor": {1: "int", 2: "TensorShapeProto"},
    "TypeProto.Sequence": {1: "TypeProto"},
    "TypeProto.Map": {1: "int", 2: "TypeProto"},
    "TypeProto.Optional": {1: "TypeProto"},
    "TypeProto.SparseTensor": {1: "int", 2: "TensorShapeProto"},
    "TensorShapeProto": {1: "TensorShapeProto.Dimension*"},
    "TensorShapeProto.Dimension": {1: "int", 2: "bytes", 3: "bytes"},
}
"""What a graph may hold, by message and field number; * is a field that may be repeated.

Left out on purpose, of what onnx.proto has: external data and segments of a tensor, training,
functions (the partitioner inlines them), opaque types, and where an operator is to run.
"""

_ONE_OF: Final[Mapping[str, frozenset[int]]] = {
    "TypeProto": frozenset((1, 4, 5, 8, 9)),
    "TensorShapeProto.Dimension": frozenset((1, 2)),
}
"""Fields of which a message has one at most."""

_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14
_NAME, _STRING = 1, 4
"""Of an attribute."""

_OP_TYPE: Final = 4
_NODE_DOMAIN: Final = 7
_SET_DOMAIN: Final = 1


class EngineError(Exception):
    """A graph can't be opened or fails; onnxruntime's own errors share no base class."""


class GraphError(EngineError):
    """A graph isn't one that may be opened; says where and why."""


def check_graph(graph: bytes) -> None:
    """Checks that a graph is whole in itself and has nothing but known parts.

    Args:
        graph: the ONNX bytes of a model.

    Raises:
        GraphError: when it refers to a file, has an operator of an unknown domain or one that
            opens files, or isn't a well-formed message of the known fields.
    """
    _Walk(graph).message("ModelProto", 0, len(graph), 1)


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def message(self, kind: str, start: int, stop: int, depth: int) -> None:
        if depth > DEEPEST:
            raise _refused(start, f"messages lie more than {DEEPEST} deep in each other")
        fields = FIELDS[kind]
        seen: set[int] = set()
        names: dict[int, bytes] = {}
        place = start
        while place < stop:
            begin = place
            tag, place = self._number(place, stop)
            number, wire = tag >> 3, tag & 7
            form = fields.get(number)
            if form is None:
                raise _unknown_field(begin, kind, number)
            name = form.removesuffix("*")
            if name is form and number in seen:
                raise _refused(begin, f"field {number} of {kind} is given twice")
            seen.add(number)
            wanted = _WIRE.get(name, _BYTES)
            # Numbers that may be repeated come one by one or packed into bytes.
            if wire not in (wanted, _BYTES if name is not form else wanted):
                raise _refused(begin, f"field {number} of {kind} has wire type {wire}")
            value = place
            place = self._end(wire, place, stop)
            if wire == _BYTES:
                value = self._number(value, stop)[1]
                if name not in _WIRE:
                    self.message(name, value, place, depth + 1)
                elif name is form:
                    names[number] = self._data[value:place]
            elif kind == "TensorProto" and number == _DATA_LOCATION and self._data[value]:
                raise _refused(
                    begin, "a tensor's bytes lie in a file; a graph has to be self-contained"
                )
        if len(seen & _ONE_OF.get(kind, frozenset())) > 1:
            raise _refused(start, f"{kind} has two values where one is allowed")
        _check_meaning(kind, start, names)

    def _end(self, wire: int, place: int, stop: int) -> int:
        """Gives where a field ends whose value begins at a place."""
        if wire == _BYTES:
            length, place = self._number(place, stop)
            end = place + length
        elif wire == _VARINT:
            end = place
            while end < min(stop, place + 10) and self._data[end] > 0x7F:
                end += 1
            end += 1
            if end - place > 10:
                raise _refused(place, "a number has more than ten bytes")
        else:
            end = place + (8 if wire == _FIXED64 else 4)
        if end > stop:
            raise _refused(place, "a field ends after the message that it is in")
        return end

    def _number(self, place: int, stop: int) -> tuple[int, int]:
        """Gives a tag or a length, in as few bytes as it needs, and where it ends."""
        result = 0
        for index, byte in enumerate(self._data[place : min(place + 5, stop)]):
            result |= (byte & 0x7F) << (7 * index)
            if byte <= 0x7F and (byte or not index):
                return result, place + index + 1
            if not byte:
                break
        raise _refused(place, "expected a tag or a length")


def _check_meaning(kind: str, place: int, names: Mapping[int, bytes]) -> None:
    """Checks what a message names: operators, their sets, and locales."""
    if kind == "NodeProto":
        _check_operator(place, names)
    elif kind == "AttributeProto":
        _check_attribute(place, names)
    elif kind == "OperatorSetIdProto":
        _check_domain(place, names.get(_SET_DOMAIN, b""), IMPORTED_DOMAINS)


def _check_operator(place: int, names: Mapping[int, bytes]) -> None:
    op_type = names.get(_OP_TYPE, b"")
    _check_domain(place, names.get(_NODE_DOMAIN, b""), DOMAINS)
    if op_type in FILE_OPERATORS:
        raise _refused(place, f"the operator {op_type.decode()} opens files")


def _check_attribute(place: int, names: Mapping[int, bytes]) -> None:
    """With a slash in its name, a locale is a folder whose tables the C library looks for."""
    if names.get(_NAME) == b"locale" and b"/" in names.get(_STRING, b""):
        raise _refused(place, "a locale is named as a folder; a graph has to be self-contained")


def _check_domain(place: int, domain: bytes, known: frozenset[bytes]) -> None:
    if domain not in known:
        text = domain[:80].decode("utf-8", "replace")
        raise _refused(place, f"operators of the domain {text!r} aren't known here")


def _unknown_field(place: int, kind: str, number: int) -> GraphError:
    if kind == "TensorProto" and number == _EXTERNAL_DATA:
        return _refused(place, "a tensor names a file; a graph has to be self-contained")
    return _refused(place, f"{kind} has a field {number}, which isn't allowed here")


def _refused(place: int, why: str) -> GraphError:
    return GraphError(f"the graph is refused at byte {place}: {why}")
