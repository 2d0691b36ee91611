"""An inference request as values: JSON, JSON followed by raw tensors, or one raw tensor alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from app.card import ModelCard
from app.errors import InputError, PayloadTooLargeError
from app.fields import FieldError, Fields, parse_json
from app.limits import MAX_ID_CHARACTERS, MAX_TENSOR_ELEMENTS
from app.server.oip.bounds import check_json
from app.server.oip.datatypes import DATATYPES, from_binary
from app.server.oip.numbers import read_data
from app.tensors import MAX_RANK, Array, packed_bytes

_MAX_TENSORS: Final = 256
_MAX_PARAMETER: Final = (1 << 63) - 1
_RAW_INPUT: Final = "the raw body"


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """One output that the client asked for.

    Attributes:
        name: of the model's output.
        binary: whether its bytes follow the JSON, or its items stand in it.
        classes: 0 for the tensor itself; else so many best classes as strings.
    """

    name: str
    binary: bool = False
    classes: int = 0

    @property
    def is_listed(self) -> bool:
        """Whether the JSON holds the tensor's own items."""
        return not self.binary and not self.classes


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed request.

    Attributes:
        id: the client's, sent back; None when it gave none.
        inputs: arrays by name, checked against the model card; views of the body where they can.
        outputs: what the client wants, in its order.
        priority: 0 for the default; otherwise 1 goes first.
        timeout_us: how long the client waits, in microseconds; None when it didn't say.
    """

    id: str | None
    inputs: dict[str, Array]
    outputs: tuple[WantedOutput, ...]
    priority: int = 0
    timeout_us: int | None = None


def read_header_bytes(text: str | None, body_bytes: int) -> int | None:
    """Reads the header `Inference-Header-Content-Length`: the size of the JSON at a body's start.

    None, the header or what is given, says that all of the body is JSON.

    Raises:
        InputError: it isn't a size within the body.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= body_bytes):
        raise InputError(
            f"Inference-Header-Content-Length: expected 0 to {body_bytes}, got {text[:20]!r}"
        )
    return int(text)


def decode_request(raw: bytes, card: ModelCard, header_bytes: int | None = None) -> InferRequest:
    """Decodes an inference request.

    Args:
        raw: the body; the caller has bounded its size, and by `json_bytes` that of its JSON.
        card: what the model expects.
        header_bytes: where the JSON ends and the tensors begin; None for JSON alone, 0 for one
            tensor alone.

    Raises:
        InputError: with the place in the body, what was expected and what came.
    """
    if header_bytes == 0:
        return _read_raw(memoryview(raw), card)
    text = raw[:header_bytes]
    check_json(text, card)
    try:
        fields = Fields(parse_json(text), "request")
        return _Reading(card, memoryview(raw)[len(text) :], header_bytes is not None).read(fields)
    except FieldError as error:
        raise InputError(str(error)) from error


class _Reading:
    """One pass over a request; the binary data is consumed in the order of the inputs."""

    def __init__(self, card: ModelCard, binary: memoryview, has_binary: bool) -> None:
        self._specs = {spec.name: spec for spec in card.inputs}
        self._outputs = tuple(spec.name for spec in card.outputs)
        self._binary = binary
        self._has_binary = has_binary

    def read(self, fields: Fields) -> InferRequest:
        request_id = fields.text("id", longest=MAX_ID_CHARACTERS) if fields.has("id") else None
        hints = _parameters(fields)
        all_binary = hints.has("binary_data_output") and hints.flag("binary_data_output")
        priority = _count(hints, "priority")
        timeout_us = _count(hints, "timeout") or None
        if hints.has("sequence_id"):  # one of several related requests alone would be wrong
            raise FieldError("request.parameters.sequence_id: models here keep no state")
        tensors = fields.each("inputs", self._input, most=_MAX_TENSORS)
        inputs = dict(tensors)
        if len(inputs) != len(tensors):
            raise InputError("request.inputs: an input is given twice")
        if missing := sorted(self._specs.keys() - inputs.keys()):
            raise InputError(f"request.inputs: the inputs {missing} are missing")
        if len(self._binary):
            raise InputError(f"{len(self._binary)} bytes follow the last input's binary data")
        wanted = self._wanted(fields, all_binary)
        fields.done()
        return InferRequest(request_id, inputs, wanted, priority, timeout_us)

    def _wanted(self, fields: Fields, all_binary: bool) -> tuple[WantedOutput, ...]:
        given = (
            fields.each("outputs", lambda each: self._output(each, all_binary), most=_MAX_TENSORS)
            if fields.has("outputs")
            else ()
        )
        if len({each.name for each in given}) != len(given):
            raise InputError("request.outputs: an output is given twice")
        return given or tuple(WantedOutput(name, all_binary) for name in self._outputs)

    def _output(self, fields: Fields, all_binary: bool) -> WantedOutput:
        hints = _parameters(fields)
        binary = hints.flag("binary_data") if hints.has("binary_data") else all_binary
        classes = 0
        if hints.has("classification"):
            classes = hints.integer("classification", least=1, most=MAX_TENSOR_ELEMENTS)
        return WantedOutput(fields.choice("name", self._outputs), binary, classes)

    def _input(self, fields: Fields) -> tuple[str, Array]:
        name = fields.choice("name", tuple(self._specs))
        spec = self._specs[name]
        expected = DATATYPES.get(spec.dtype)
        datatype = fields.text("datatype", longest=16)
        if datatype != expected:
            raise FieldError(
                f"{fields.where}: input {name!r} expects {expected}, got {datatype[:16]!r}"
            )
        hints = _parameters(fields)
        shape = _read_shape(fields)
        spec.check_shape(shape)
        if hints.has("binary_data_size"):
            raw = self._take(hints)
            return name, from_binary(f"{fields.where}, binary data", spec.dtype, shape, raw)
        return name, read_data(fields, spec.dtype, shape)

    def _take(self, hints: Fields) -> memoryview:
        if not self._has_binary:
            raise FieldError(
                f"{hints.where}.binary_data_size: the header Inference-Header-Content-Length is "
                "missing, which says where the JSON ends"
            )
        size = hints.integer("binary_data_size", least=0, most=len(self._binary))
        raw, self._binary = self._binary[:size], self._binary[size:]
        return raw


def _parameters(fields: Fields) -> Fields:
    """Takes the parameters of a request, an input or an output; unknown ones are hints."""
    where = f"{fields.where}.parameters"
    given = Fields(fields.take("parameters") if fields.has("parameters") else {}, where)
    hints = {name: given.take(name) for name in given.names()}
    for name, value in hints.items():
        if name.startswith("shared_memory"):
            raise FieldError(f"{where}.{name[:40]!r}: an enclave doesn't accept shared memory")
        if not isinstance(value, str | int | float):
            raise given.wrong(repr(name[:40]), "a string, a number or a truth value", value)
    return Fields(hints, where)


def _count(hints: Fields, name: str) -> int:
    return hints.integer(name, least=0, most=_MAX_PARAMETER) if hints.has(name) else 0


def _read_shape(fields: Fields) -> tuple[int, ...]:
    shape = []
    for size in fields.array("shape", most=MAX_RANK):
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 40:
            raise fields.wrong("shape", "whole numbers from 0", size)
        shape.append(size)
    _check_elements(f"{fields.where}.shape", shape)
    return tuple(shape)


def _check_elements(where: str, shape: list[int]) -> None:
    if prod(shape) > MAX_TENSOR_ELEMENTS:
        raise PayloadTooLargeError(
            f"{where}: {prod(shape)} elements, at most {MAX_TENSOR_ELEMENTS} are allowed"
        )


def _read_raw(raw: memoryview, card: ModelCard) -> InferRequest:
    """The body is the model's one input; its size gives the one dimension that isn't fixed."""
    if len(card.inputs) != 1:
        raise InputError(
            f"a body without JSON is for models with one input, this one has {len(card.inputs)}"
        )
    spec = card.inputs[0]
    item_bytes = packed_bytes(spec.dtype, 1) if spec.dtype in DATATYPES else 0
    free = [place for place, size in enumerate(spec.shape or ()) if isinstance(size, str)]
    if spec.shape is None or len(free) > 1 or not item_bytes:
        raise InputError(
            "a body without JSON is for an input of fixed-size elements and at most one variable "
            f"dimension, this one is {spec.dtype} {list(spec.shape or ())}"
        )
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    one_bytes = prod(shape) * item_bytes
    if free and one_bytes and len(raw) % one_bytes == 0:
        shape[free[0]] = len(raw) // one_bytes
    _check_elements(_RAW_INPUT, shape)
    array = from_binary(_RAW_INPUT, spec.dtype, tuple(shape), raw)
    outputs = tuple(WantedOutput(each.name, binary=True) for each in card.outputs)
    return InferRequest(None, {spec.name: array}, outputs)
