"""A graph in a bundle is self-contained: nothing of it makes onnxruntime open a file.

The attacker supplies a model or a folder of partitions. Somewhere in its graph a tensor's bytes
are said to lie in a file of the enclave's: another model's key, a certificate. Were the graph
opened, the model's answer would be that file.
"""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from app import graph_check
from app.engine import EngineError, OrtEngine
from app.graph_check import DEEPEST, FIELDS, GraphError, check_graph
from app.manifest import PartitionLayout
from tests import folders, models
from tests.graph import FLOAT, OPSET
from tools.bundling.writer import layout_of, partition_structure

SECRET: Final = b"the key of another model, 32 b.."

LEFT_OUT: Final = {
    "ModelProto": {"training_info", "functions", "configuration"},
    "NodeProto": {"device_configurations"},
    "TensorProto": {"segment", "external_data"},
    "TypeProto": {"opaque_type"},
}
"""Of onnx.proto, on purpose; see `app.graph_check.FIELDS`."""

LAYOUT: Final = PartitionLayout(
    inputs=(),
    outputs=(),
    release=(),
    weights=(),
    input_bytes=0,
    boundary_bytes=0,
    activation_bytes=0,
    session_bytes=0,
    run_ns=0,
)


def external(name: str, location: str, size: int = len(SECRET)) -> TensorProto:
    """A tensor whose bytes lie in a file."""
    tensor = TensorProto(
        name=name, data_type=TensorProto.UINT8, dims=[size], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_of(
    nodes: list[onnx.NodeProto], initializers: list[TensorProto] | None = None
) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph(nodes, "g", [], [output], initializers or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def cast(name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], ["y"], to=FLOAT)


def in_initializer(location: str) -> onnx.ModelProto:
    return model_of([cast("c")], [external("c", location)])


def in_attribute(location: str) -> onnx.ModelProto:
    return model_of(
        [helper.make_node("Constant", [], ["c"], value=external("c", location)), cast("c")]
    )


def in_branches(location: str) -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info(name, TensorProto.UINT8, [len(SECRET)])
        return helper.make_graph([], name, [], [made], [external(name, location)])

    choice = helper.make_node(
        "If", ["b"], ["c"], then_branch=branch("then"), else_branch=branch("else")
    )
    return model_of([choice, cast("c")], [numpy_helper.from_array(np.array(True), "b")])


def in_sparse_values(location: str) -> onnx.ModelProto:
    indices = numpy_helper.from_array(np.arange(len(SECRET)), "i")
    sparse = helper.make_sparse_tensor(external("c", location), indices, [len(SECRET)])
    model = model_of([cast("c")])
    model.graph.sparse_initializer.append(sparse)
    return model


def in_function(location: str) -> onnx.ModelProto:
    inner = helper.make_node("Constant", [], ["c"], value=external("c", location))
    model = model_of([helper.make_node("F", [], ["y"], domain="own")])
    model.opset_import.append(helper.make_opsetid("own", 1))
    opsets = [helper.make_opsetid("", OPSET)]
    model.functions.append(helper.make_function("own", "F", [], ["y"], [inner, cast("c")], opsets))
    return model


PLACES: Final = {
    "initializer": in_initializer,
    "attribute": in_attribute,
    "branches": in_branches,
    "sparse values": in_sparse_values,
    "function": in_function,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["secret", "./secret", "host/../secret", "absolute"])
def test_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, location: str
) -> None:
    """The file is there, in the working folder, where onnxruntime looks for it."""
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    named = str(tmp_path / "secret") if location == "absolute" else location
    with pytest.raises(EngineError, match="refused at byte"):
        OrtEngine().open(PLACES[place](named).SerializeToString(), LAYOUT)


def test_without_the_check_the_file_would_still_not_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(graph_check, "check_graph", lambda _: None)
    with pytest.raises(EngineError, match="External data"):
        OrtEngine().open(in_attribute("secret").SerializeToString(), LAYOUT)


def spelled(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    assert len(content) < 128
    return bytes((number << 3 | 2, len(content))) + content


def in_tensor(extra: bytes) -> bytes:
    """A model with a constant that has more in its message."""
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "c").SerializeToString() + extra
    node = helper.make_node("Identity", ["c"], ["y"]).SerializeToString()
    graph = spelled(1, node) + spelled(5, tensor)
    return spelled(7, graph) + spelled(8, b"\x10\x11")


HIDDEN: Final = {
    "an entry, and the bytes inside": in_tensor(spelled(13, spelled(1, b"location"))),
    "a place, and no entry": in_tensor(b"\x70\x01"),
    "a place that wraps around to a file": in_tensor(b"\x70\x81\x80\x80\x80\x10"),
    "a place in ten bytes": in_tensor(b"\x70" + b"\x80" * 9 + b"\x00"),
    "a place that nobody knows": in_tensor(b"\x70\x02"),
    "first inside, then in a file": in_tensor(b"\x70\x00\x70\x01"),
    "a tag in more bytes than it needs": in_tensor(b"\xf0\x80\x00\x01"),
    "a length in more bytes than it needs": in_tensor(b"\x6a\x80\x00"),
    "a group around it": in_tensor(b"\x6b\x0a\x01a\x6c"),
    "another wire type": in_tensor(b"\x68\x01"),
    "a segment": in_tensor(spelled(3, b"")),
    "a field of tomorrow": in_tensor(b"\xf8\x07\x01"),
    "a second graph, which is merged": in_tensor(b"") + spelled(7, b""),
    "bytes after the end": in_tensor(b"") + b"\x3a\x7f",
    "half a tag": in_tensor(b"") + b"\x80",
}


@pytest.mark.parametrize("case", HIDDEN)
def test_a_reference_is_hidden_in_the_encoding(case: str) -> None:
    check_graph(in_tensor(b""))
    with pytest.raises(GraphError, match="refused at byte"):
        check_graph(HIDDEN[case])


@pytest.mark.parametrize("operator", ["EPContext", "Snpe"])
@pytest.mark.parametrize("domain", ["com.microsoft", "", "ai.onnx"])
def test_an_operator_that_opens_a_compiled_model(operator: str, domain: str) -> None:
    node = helper.make_node(
        operator, [], ["y"], domain=domain, embed_mode=0, ep_cache_context="secret"
    )
    with pytest.raises(GraphError, match=f"the operator {operator} opens files"):
        check_graph(model_of([node]).SerializeToString())


@pytest.mark.parametrize("locale", ["/host/evil", "../evil", "LC_CTYPE=/host/evil;LC_TIME=C"])
def test_a_locale_that_is_a_folder(locale: str) -> None:
    """The C library would take it for the place of its own tables."""
    node = helper.make_node("StringNormalizer", ["x"], ["y"], locale=locale)
    with pytest.raises(GraphError, match="a locale is named as a folder"):
        check_graph(model_of([node]).SerializeToString())
    node = helper.make_node("StringNormalizer", ["x"], ["y"], locale="en_US.UTF-8")
    check_graph(model_of([node]).SerializeToString())


@pytest.mark.parametrize("domain", ["ai.onnx.contrib", "com.microsoft\0", "COM.MICROSOFT", "own"])
def test_an_operator_of_a_domain_that_is_not_listed(domain: str) -> None:
    inner = helper.make_graph([helper.make_node("Relu", [], ["t"], domain=domain)], "then", [], [])
    for node in (
        helper.make_node("Relu", [], ["y"], domain=domain),
        helper.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner),
    ):
        with pytest.raises(GraphError, match="aren't known here"):
            check_graph(model_of([node]).SerializeToString())


def test_an_operator_set_of_a_domain_that_is_not_listed() -> None:
    model = model_of([cast("c")])
    model.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(GraphError, match="'own' aren't known here"):
        check_graph(model.SerializeToString())


def test_branches_inside_of_branches() -> None:
    def nested(depth: int) -> onnx.ModelProto:
        graph = helper.make_graph([], "last", [], [])
        for _ in range(depth):
            node = helper.make_node("If", ["b"], ["c"], then_branch=graph)
            graph = helper.make_graph([node], "g", [], [])
        return onnx.ModelProto(graph=graph)

    deep = nested(31)
    check_graph(deep.SerializeToString())
    # A protobuf library refuses to make it, so it is put together by hand.
    content = b""
    for _ in range(DEEPEST):
        content = _field(6, content)
        content = _field(5, content)
        content = _field(1, content)
    with pytest.raises(GraphError, match="deep in each other"):
        check_graph(_field(7, content))


def _field(number: int, content: bytes) -> bytes:
    length, head = len(content), bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + content


def test_bytes_that_are_onnxruntimes_own_format_too(tmp_path: Path) -> None:
    """A message that begins with a name of its maker, in which the other format's mark stands."""
    folder = folders.make_folder(models.chain(), tmp_path / "m", count=1)
    structure = partition_structure(folder, folder.plan.partitions[0])
    both = spelled(2, b"\0\0ORTM") + structure.graph
    assert both[4:8] == b"ORTM"
    session = OrtEngine().open(both, layout_of(folder.plan.partitions[0], structure))
    assert session is not None


def described(descriptor: Descriptor, found: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """All messages that a message may hold, by their names."""
    name = descriptor.full_name.removeprefix("onnx.")
    if name not in found:
        found[name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None and field.name not in LEFT_OUT.get(name, ()):
                described(field.message_type, found)
    return found


def form(field: FieldDescriptor) -> str:
    """A field as `FIELDS` describes it."""
    if field.message_type is not None:
        name = field.message_type.full_name.removeprefix("onnx.")
    elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
        name = "bytes"
    else:
        name = {field.TYPE_FLOAT: "float", field.TYPE_DOUBLE: "double"}.get(field.type, "int")
    return f"{name}*" if field.is_repeated else str(name)


def test_the_table_is_onnx_without_what_is_left_out() -> None:
    expected = {
        name: {
            field.number: form(field)
            for field in descriptor.fields
            if field.name not in LEFT_OUT.get(name, ())
        }
        for name, descriptor in described(onnx.ModelProto.DESCRIPTOR, {}).items()
    }
    assert {name: dict(fields) for name, fields in FIELDS.items()} == expected


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, PartitionLayout]]:
    """Every partition's structure of every model that the tests have."""
    place = tmp_path_factory.mktemp("models")
    cases = []
    for name, make in models.MODELS.items():
        folder = folders.make_folder(make(), place / name, count=2)
        for partition in folder.plan.partitions:
            structure = partition_structure(folder, partition)
            cases.append((structure.graph, layout_of(partition, structure)))
    return cases


def test_every_graph_opens_where_no_file_can_be_opened(
    graphs: list[tuple[bytes, PartitionLayout]], tmp_path: Path
) -> None:
    """The kernel refuses every file to the process that opens them."""
    path = tmp_path / "graphs"
    path.write_bytes(pickle.dumps(graphs))
    command = [sys.executable, "-m", "tests.unit.app.opened", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == [""] * len(graphs)


def tensors(message: Message) -> Iterator[TensorProto]:
    """All tensors at any depth."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                yield from tensors(each)


def nodes(message: Message) -> Iterator[onnx.NodeProto]:
    if isinstance(message, onnx.NodeProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                yield from nodes(each)


def turned_out(model: onnx.ModelProto, chance: random.Random) -> bool:
    """Moves some tensor of a model into a file."""
    found = list(tensors(model))
    if found:
        chance.choice(found).MergeFrom(external("", "secret"))
    return bool(found)


def added(model: onnx.ModelProto, chance: random.Random) -> bool:
    """Gives some operator one more attribute that names a file, in one of all forms."""
    attribute = chance.choice(list(nodes(model))).attribute.add(name="more")
    tensor = external("more", "secret")
    sparse = onnx.SparseTensorProto(values=tensor)
    graph = onnx.GraphProto(initializer=[tensor])
    sets: tuple[Callable[[], object], ...] = (
        lambda: attribute.t.CopyFrom(tensor),
        lambda: attribute.tensors.append(tensor),
        lambda: attribute.sparse_tensor.CopyFrom(sparse),
        lambda: attribute.sparse_tensors.append(onnx.SparseTensorProto(indices=tensor)),
        lambda: attribute.g.CopyFrom(graph),
        lambda: attribute.graphs.append(onnx.GraphProto(sparse_initializer=[sparse])),
    )
    chance.choice(sets)()
    return True


def declared(model: onnx.ModelProto, chance: random.Random) -> bool:
    """Adds one more tensor to the main graph, to what trains it, or to a function."""
    tensor = external("more", "secret")
    graph = onnx.GraphProto(initializer=[tensor])
    constant = helper.make_node("Constant", [], ["more"], value=tensor)
    sets: tuple[Callable[[], object], ...] = (
        lambda: model.graph.initializer.append(tensor),
        lambda: model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor)),
        lambda: model.training_info.add().algorithm.CopyFrom(graph),
        lambda: model.functions.add(name="f", node=[constant]),
    )
    chance.choice(sets)()
    return True


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_mutated_graph_is_refused(
    graphs: list[tuple[bytes, PartitionLayout]], chance: random.Random
) -> None:
    """A reference is put in at a random place and depth; nothing reaches onnxruntime."""
    model = onnx.ModelProto.FromString(chance.choice(graphs)[0])
    if chance.choice((turned_out, added, declared))(model, chance):
        with pytest.raises(GraphError):
            check_graph(model.SerializeToString())


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_damaged_graphs_are_refused_or_read_alike(
    graphs: list[tuple[bytes, PartitionLayout]], chance: random.Random
) -> None:
    """Whatever bytes are changed: what passes holds no reference for an ordinary parser either."""
    content = bytearray(chance.choice(graphs)[0])
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    try:
        check_graph(bytes(content))
        parsed = onnx.ModelProto.FromString(bytes(content))
    except (GraphError, DecodeError):
        return
    for tensor in tensors(parsed):
        assert not tensor.external_data
        assert tensor.data_location == TensorProto.DEFAULT
