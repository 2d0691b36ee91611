from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import BundleFormatError
from app.manifest import Weight, pack_structure, parse_manifest, parse_structure
from tests.property.test_hostile_bytes import LAYOUT, MANIFEST


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 2}, "format version 2: this appliance reads version 1"),
        ({"format_version": "1"}, "format_version"),
        ({"extra": 1}, r"unknown field\(s\) 'extra'"),
        ({"model": {"id": "m", "version": 1, "extra": 1}}, r"unknown field\(s\) 'extra'"),
        ({"model": {"id": "../m", "version": 1}}, "manifest.model.id"),
        ({"model": {"id": "M", "version": 1}}, "manifest.model.id"),
        ({"model": {"id": "m\n", "version": 1}}, "manifest.model.id"),
        ({"model": {"id": "m" * 65, "version": 1}}, "manifest.model.id"),
        ({"model": {"id": "m", "version": 0}}, "version"),
        ({"model": {"id": "m", "version": True}}, "version"),
        ({"bundle_id": "00"}, "bundle_id"),
        ({"bundle_id": "GG" * 32}, "bundle_id"),
        ({"optimization": "fast"}, "optimization"),
        ({"cpu": "sparc"}, "cpu"),
        ({"budget_bytes": 0}, "budget_bytes"),
        ({"chunk_bytes": 4095}, "chunk_bytes"),
        ({"chunk_bytes": 1 << 30}, "chunk_bytes"),
        ({"card_bytes": 1 << 60}, "card_bytes"),
        ({"partitions": []}, "at least one partition"),
        ({"partitions": {}}, "expected an array"),
        ({"partitions": [{"structure_bytes": 4, "weights_bytes": 0}]}, "structure_bytes"),
        ({"partitions": [{"structure_bytes": 5, "weights_bytes": -1}]}, "weights_bytes"),
        ({"partitions": [{"structure_bytes": 5, "weights_bytes": 1 << 41}]}, "weights_bytes"),
        ({"partitions": [{"structure_bytes": 5}]}, r"partitions\[0\]: the field 'weights_bytes'"),
    ],
)
def test_manifest_out_of_form(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleFormatError, match=said):
        parse_manifest(json.dumps(MANIFEST | change).encode())


@pytest.mark.parametrize("field", MANIFEST)
def test_every_field_of_a_manifest_is_needed(field: str) -> None:
    content = {name: value for name, value in MANIFEST.items() if name != field}
    with pytest.raises(BundleFormatError, match=f"the field '{field}' is missing"):
        parse_manifest(json.dumps(content).encode())


def structure(change: dict[str, Any]) -> bytes:
    return pack_structure(json.dumps(LAYOUT | change).encode(), b"graph")


def weight(**change: object) -> dict[str, Any]:
    return {"weights": [{"name": "w", "dtype": "int8", "shape": [3], "offset": 64, **change}]}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "shorter than its length field"),
        (b"\0\0\0", "shorter than its length field"),
        (b"\0\0\0\x09{}", "runs past its end"),
        (b"\xff\xff\xff\xff{}", "runs past its end"),
        (structure({"extra": 1}), "unknown field"),
        (structure({"activation_bytes": -1}), "activation_bytes"),
        (structure({"boundary_bytes": -1}), "boundary_bytes"),
        (structure({"session_bytes": 1 << 41}), "session_bytes"),
        (structure({"run_ns": 1 << 51}), "run_ns"),
        (structure(weight(offset=65)), "a multiple of 64"),
        (structure(weight(offset=-64)), "offset"),
        (structure(weight(shape=["n"])), "no symbolic dimension"),
        (structure(weight(shape=None)), "fixed size"),
        (structure(weight(dtype="string")), "fixed size"),
        (structure(weight(shape=[65])), "weights end at 129, the object at 128"),
        (structure(weight(shape=[1 << 39, 1 << 39])), "weights end at"),
    ],
)
def test_structure_out_of_form(raw: bytes, said: str) -> None:
    with pytest.raises(BundleFormatError, match=said):
        parse_structure(raw, 128)


def test_structure_gives_layout_and_graph() -> None:
    layout, graph = parse_structure(structure({}), 67)
    assert graph == b"graph"
    assert layout.weights == (Weight("w", "int8", (3,), 64),)
    assert layout.release == ("x",)


@pytest.mark.parametrize("field", LAYOUT)
def test_every_field_of_a_layout_is_needed(field: str) -> None:
    content = {name: value for name, value in LAYOUT.items() if name != field}
    packed = pack_structure(json.dumps(content).encode(), b"graph")
    with pytest.raises(BundleFormatError, match=f"the field '{field}' is missing"):
        parse_structure(packed, 128)
