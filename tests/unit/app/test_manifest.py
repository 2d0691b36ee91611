from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import BundleFormatError, BundleRefusedError
from app.manifest import Weight, pack_structure, parse_manifest, parse_structure
from app.objects import key_check
from app.release import read_time
from tests.property.test_hostile_bytes import LAYOUT, MANIFEST


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 3}, "format version 3: this appliance reads versions 1 and 2"),
        ({"format_version": 0}, "format version 0: this appliance reads versions 1 and 2"),
        ({"format_version": 1}, r"unknown field\(s\) 'key_check', 'key_id', 'released_at'"),
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
        ({"key_id": ""}, "manifest.key_id: expected at most 64 of a-z"),
        ({"key_id": "../k"}, "manifest.key_id"),
        ({"key_check": "00" * 31}, "manifest.key_check: expected 64 hex digits"),
        ({"key_check": "AA" * 32}, "manifest.key_check: expected 64 hex digits"),
        ({"key_check": None}, "key_check"),
        ({"released_at": 1780272000}, "released_at: expected a string"),
        ({"released_at": ""}, "manifest.released_at: expected a time as 2027-01-31T00:00:00Z"),
        ({"released_at": "2026-01-02"}, "released_at"),
        ({"released_at": "2026-01-02T03:04:05"}, "released_at"),
        ({"released_at": "2026-01-02T03:04:05z"}, "released_at"),
        ({"released_at": "2026-01-02 03:04:05Z"}, "released_at"),
        ({"released_at": "2026-01-02T03:04:05+00:00"}, "released_at"),
        ({"released_at": "2026-01-02T03:04:05.5Z"}, "released_at"),
        ({"released_at": "2026-02-30T03:04:05Z"}, "released_at"),
        ({"released_at": "2026-01-02T24:00:00Z"}, "released_at"),
        ({"released_at": "2026-06-30T23:59:60Z"}, "released_at"),
        ({"released_at": "0000-01-02T03:04:05Z"}, "released_at"),
        ({"released_at": "٢٠٢٦-01-02T03:04:05Z"}, "released_at"),
        ({"released_at": "2026-01-02T03:04:05Z\n"}, "released_at"),
        ({"expires_at": None}, "expires_at: expected a string"),
        ({"expires_at": "never"}, "manifest.expires_at: expected a time"),
        ({"expires_at": "2026-01-02T03:04:05Z"}, "expires_at: isn't later than released_at"),
        ({"expires_at": "2025-01-02T03:04:05Z"}, "expires_at: isn't later than released_at"),
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


def test_format_1_has_no_release() -> None:
    """It reads on as it was, and says so: whoever decides whether to serve it sees None."""
    names = ("key_id", "key_check", "released_at")
    content = {name: value for name, value in MANIFEST.items() if name not in names}
    manifest = parse_manifest(json.dumps(content | {"format_version": 1}).encode())
    assert manifest.release is None
    assert manifest.identity.format_version == 1
    assert manifest.commits_to(bytes(32))
    manifest.check_expiry(datetime.max.replace(tzinfo=UTC))


def test_key_check_is_salted_and_is_of_one_key() -> None:
    keys = [bytes(32), bytes(31) + b"\1", b"\1" * 32]
    salts = [b"", bytes(31) + b"\2", b"\2" * 32]
    assert len({key_check(key, salt) for key in keys for salt in salts}) == 9
    content = MANIFEST | {"key_check": key_check(keys[1], bytes(32)).hex()}
    manifest = parse_manifest(json.dumps(content).encode())
    assert [manifest.commits_to(key) for key in keys] == [False, True, False]


@pytest.mark.parametrize(
    ("now", "is_over"),
    [
        ("2026-01-02T03:04:05Z", False),
        ("2027-01-30T23:59:59Z", False),
        ("2027-01-31T00:00:00Z", True),
        ("2999-01-01T00:00:00Z", True),
    ],
)
def test_expiry_counts_from_its_very_second(now: str, is_over: bool) -> None:
    content = MANIFEST | {"expires_at": "2027-01-31T00:00:00Z"}
    manifest = parse_manifest(json.dumps(content).encode())
    if not is_over:
        return manifest.check_expiry(read_time(now))
    with pytest.raises(BundleRefusedError, match="expired at 2027-01-31T00:00:00Z"):
        manifest.check_expiry(read_time(now))
    return None


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
