"""What is written is read back equal: manifest, layout, card, plan, tensors of a request."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.card import ModelCard, Preprocessing, read_card
from app.cpu import CLASSES
from app.fields import Fields, parse_json
from app.manifest import (
    OPTIMIZATIONS,
    Manifest,
    PartitionLayout,
    PartitionSizes,
    Weight,
    pack_structure,
    parse_manifest,
    parse_structure,
)
from app.objects import Identity
from app.release import Release
from app.server.oip.datatypes import DATATYPES
from app.server.oip.request import InferRequest, WantedOutput, decode_request
from app.server.oip.response import InferAnswer, encode_response
from app.tensors import BFLOAT16, ITEM_BITS, Array, TensorSpec, dtype_name
from tools.planner.plan import Partition, Plan, read_plan

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SIZES = st.integers(0, 1 << 40)
SPECS = st.builds(
    TensorSpec,
    NAMES,
    st.sampled_from(sorted(ITEM_BITS)),
    st.none() | st.lists(st.integers(0, 1 << 20) | NAMES, max_size=5).map(tuple),
)
WEIGHTS = st.builds(
    Weight,
    NAMES,
    st.sampled_from([name for name in sorted(ITEM_BITS) if name != "string"]),
    st.lists(st.integers(0, 1000), max_size=3).map(tuple),
    st.integers(0, 1 << 20).map(lambda place: 64 * place),
)
LAYOUTS = st.builds(
    PartitionLayout,
    st.lists(SPECS, max_size=3).map(tuple),
    st.lists(SPECS, max_size=3).map(tuple),
    st.lists(NAMES, max_size=3).map(tuple),
    st.lists(WEIGHTS, max_size=3).map(tuple),
    *[SIZES] * 5,
)
IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
RANDOM = st.binary(min_size=32, max_size=32)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
RELEASES = st.builds(
    lambda key_id, check, times: Release(key_id, check, times[0], (*times, None)[1]),
    IDS,
    RANDOM,
    st.lists(MOMENTS, min_size=1, max_size=2, unique=True).map(sorted),
)


_CONTENT = (
    NAMES,
    st.sampled_from(OPTIMIZATIONS),
    st.sampled_from(CLASSES),
    st.integers(1, 1 << 40),
    st.integers(4096, 1 << 26),
    st.integers(1, 1 << 24),
    st.lists(st.builds(PartitionSizes, st.integers(5, 1 << 40), SIZES), min_size=1, max_size=5).map(
        tuple
    ),
)


def manifests(version: int, releases: st.SearchStrategy[Release | None]) -> st.SearchStrategy[Any]:
    """Draws manifests of a format."""
    return st.builds(
        Manifest,
        st.builds(Identity, IDS, st.integers(1, (1 << 31) - 1), RANDOM, st.just(version)),
        releases,
        *_CONTENT,
    )


MANIFESTS = manifests(1, st.none()) | manifests(2, RELEASES)
MEANS = st.floats(-1e6, 1e6)
SPREADS = st.floats(1e-6, 1e6)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    """Draws how a picture becomes a tensor."""
    channels = draw(st.sampled_from([1, 3]))
    return Preprocessing(
        layout=draw(st.sampled_from(["NCHW", "NHWC"])),
        channels=channels,
        height=draw(st.integers(1, 8192)),
        width=draw(st.integers(1, 8192)),
        fit=draw(st.sampled_from(["stretch", "crop"])),
        resize=draw(st.sampled_from(["nearest", "bilinear", "bicubic"])),
        scale=draw(SPREADS),
        mean=tuple(draw(st.lists(MEANS, min_size=channels, max_size=channels))),
        std=tuple(draw(st.lists(SPREADS, min_size=channels, max_size=channels))),
        invert=draw(st.booleans()),
    )


CARDS = st.builds(
    ModelCard,
    NAMES,
    st.just("image-classification"),
    st.lists(NAMES, max_size=4).map(tuple),
    st.sampled_from(["logits", "probabilities"]),
    preprocessings(),
    st.lists(SPECS, max_size=3).map(tuple),
    st.lists(SPECS, max_size=3).map(tuple),
)


@settings(max_examples=50)
@given(MANIFESTS)
def test_manifest(manifest: Manifest) -> None:
    assert parse_manifest(json.dumps(manifest.to_json()).encode()) == manifest


@settings(max_examples=50)
@given(LAYOUTS, st.binary(max_size=50))
def test_structure(layout: PartitionLayout, graph: bytes) -> None:
    packed = pack_structure(json.dumps(layout.to_json()).encode(), graph)
    end = max((weight.offset + weight.size_bytes for weight in layout.weights), default=0)
    assert parse_structure(packed, end) == (layout, graph)


@settings(max_examples=50)
@given(CARDS)
def test_card(card: ModelCard) -> None:
    fields = Fields(parse_json(json.dumps(card.to_json()).encode()), "card")
    assert read_card(fields) == card
    fields.done()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draws a plan whose partitions follow each other."""
    partitions: list[Partition] = []
    for index in range(draw(st.integers(1, 4))):
        start = partitions[-1].stop if partitions else 0
        drawn = draw(
            st.builds(
                Partition,
                st.just(index),
                st.just(start),
                st.just(start + draw(st.integers(1, 9))),
                NAMES,
                NAMES,
                st.lists(SPECS, max_size=2).map(tuple),
                st.lists(SPECS, max_size=2).map(tuple),
                st.lists(NAMES, max_size=2).map(tuple),
                *[SIZES] * 8,
                NAMES,
                st.just("ab" * 32),
                st.none() | st.integers(1, 1 << 40),
            )
        )
        partitions.append(drawn)
    dimensions = draw(st.dictionaries(NAMES, st.integers(1, 1000), max_size=3))
    return Plan(
        model_digest="0f" * 32,
        data_digests=draw(st.sampled_from([(), (("data-0.bin", "1e" * 32),)])),
        optimization=draw(st.sampled_from(OPTIMIZATIONS)),
        cpu=draw(st.sampled_from(CLASSES)),
        tile_bytes=draw(st.none() | st.integers(1, 1 << 40)),
        row_bytes=draw(st.none() | st.integers(1, 1 << 40)),
        budget_bytes=draw(st.integers(1, 1 << 40)),
        peak_bytes=draw(SIZES),
        request_ns=draw(SIZES),
        chunk_bytes=draw(st.integers(1, 1 << 40)),
        threads=draw(st.integers(1, 64)),
        overlap=draw(st.booleans()),
        lock_step=draw(st.integers(1, 64)),
        dimensions=tuple(sorted(dimensions.items())),
        inputs=tuple(draw(st.lists(SPECS, max_size=2))),
        outputs=tuple(draw(st.lists(SPECS, max_size=2))),
        partitions=tuple(partitions),
        measured_bytes=draw(st.none() | st.integers(1, 1 << 40)),
    )


@settings(max_examples=50)
@given(plans())
def test_plan(plan: Plan) -> None:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "plan.json"
        path.write_text(plan.to_text(), encoding="utf-8")
        assert read_plan(path) == plan
        assert read_plan(path).to_text() == plan.to_text()


NUMERIC = [np.dtype(name) for name in sorted(DATATYPES) if name not in ("bfloat16", "string")]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
BITS = arrays.arrays(np.dtype(np.uint16), SHAPES)


@st.composite
def tensors(draw: st.DrawFn, *, finite: bool = True) -> Array:
    """Draws an array of any type and shape of the protocol."""
    kind = draw(st.sampled_from(["number", "bfloat16", "string"]))
    if kind == "string":
        words: Array = draw(arrays.arrays(np.dtype(object), SHAPES, elements=TEXTS))
        return words
    if kind == "bfloat16":
        bits = draw(BITS)
        # With one bit of the exponent cleared none is infinite or no number.
        bits = np.asarray(bits & 0xBFFF if finite else bits)
        return bits.reshape(-1).view(BFLOAT16).reshape(bits.shape)
    dtype = draw(st.sampled_from(NUMERIC))
    elements = (
        arrays.from_dtype(dtype, allow_nan=not finite, allow_infinity=not finite)
        if dtype.kind == "f"
        else arrays.from_dtype(dtype)
    )
    array: Array = draw(arrays.arrays(dtype, SHAPES, elements=elements))
    return array


def card_for(array: Array) -> ModelCard:
    spec = TensorSpec("t", dtype_name(array), array.shape)
    return ModelCard("", "tensors", (), "logits", None, (spec,), (spec,))


def answer_with(array: Array, *, binary: bool) -> InferAnswer:
    asked = InferRequest(None, {}, (WantedOutput("t", binary),))
    return encode_response("m", 1, card_for(array), asked, {"t": array})


def assert_same(found: Array, array: Array) -> None:
    """-0.0 and 0.0 are told apart by their bytes."""
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert (
        found.tolist() == array.tolist()
        if array.dtype == object
        else (found.tobytes() == array.tobytes())
    )


@settings(max_examples=100)
@given(tensors(), st.booleans())
def test_tensor_as_json(array: Array, nested: bool) -> None:
    """An answer's tensor, sent back flat or nested, is the same array."""
    tensor = json.loads(answer_with(array, binary=False).header)["outputs"][0]
    if nested and array.dtype != BFLOAT16:
        tensor["data"] = array.tolist() if array.ndim else [array.item()]
    request = decode_request(json.dumps({"inputs": [tensor]}).encode(), card_for(array))
    assert_same(request.inputs["t"], array)


@settings(max_examples=100)
@given(tensors(finite=False))
def test_tensor_as_bytes(array: Array) -> None:
    """An answer's tensor, sent back, is the same array: every bit of every number."""
    answer = answer_with(array, binary=True)
    tensor = json.loads(answer.header)["outputs"][0]
    head = json.dumps({"inputs": [tensor]}).encode()
    raw = b"".join([head, *answer.tensors])
    assert_same(decode_request(raw, card_for(array), len(head)).inputs["t"], array)
