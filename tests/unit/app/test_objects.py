from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from app.objects import (
    Identity,
    Kind,
    ObjectName,
    associated_data,
    chunk_count,
    chunk_nonce,
    ciphertext_bytes,
    object_key,
)

IDENTITY = Identity("m", 1, bytes(32), 2)
NAME = ObjectName(Kind.WEIGHTS, 1, 3)


def test_associated_data_tells_every_field_apart() -> None:
    """One field changed at a time: no two of them bind the same bytes."""
    variants = [
        (IDENTITY, NAME, 10),
        (Identity("n", 1, bytes(32), 2), NAME, 10),
        (Identity("m", 2, bytes(32), 2), NAME, 10),
        (Identity("m", 1, bytes(31) + b"\1", 2), NAME, 10),
        (replace(IDENTITY, format_version=1), NAME, 10),
        (IDENTITY, ObjectName(Kind.STRUCTURE, 1, 3), 10),
        (IDENTITY, ObjectName(Kind.WEIGHTS, 2, 3), 10),
        (IDENTITY, ObjectName(Kind.WEIGHTS, 1, 4), 10),
        (IDENTITY, NAME, 11),
    ]
    bound = [associated_data(*each) for each in variants]
    assert len(set(bound)) == len(bound)


def test_length_of_the_model_id_is_bound() -> None:
    """Bytes moved from one field to the next give something else."""
    long = associated_data(Identity("m\0", 1, bytes(32), 2), NAME, 10)
    short = associated_data(Identity("m", 1, bytes(32), 2), NAME, 10)
    assert not long.startswith(short[:-32])


def test_every_object_has_a_key_of_its_own() -> None:
    """Same nonce, same plaintext: equal ciphertext would mean an equal key."""
    names = [ObjectName(kind, index, 2) for kind, index in itertools.product(Kind, range(3))]
    other = replace(IDENTITY, bundle_id=b"\1" * 32)
    old = replace(IDENTITY, format_version=1)
    keys = [(bytes(32), IDENTITY), (bytes(32), other), (b"\1" * 32, IDENTITY), (bytes(32), old)]
    found = {
        object_key(model_key, identity, name).encrypt(chunk_nonce(0), b"plain", b"")
        for model_key, identity in keys
        for name in names
    }
    assert len(found) == len(names) * len(keys)


def test_nonces_differ() -> None:
    nonces = {chunk_nonce(chunk) for chunk in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {12}


@pytest.mark.parametrize(
    ("plain", "chunks", "size"),
    [(0, 1, 16), (1, 1, 17), (4096, 1, 4112), (4097, 2, 4129), (8192, 2, 8224)],
)
def test_sizes(plain: int, chunks: int, size: int) -> None:
    assert chunk_count(plain, 4096) == chunks
    assert ciphertext_bytes(plain, 4096) == size


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (ObjectName(Kind.CARD, 0, 9), "card.enc"),
        (ObjectName(Kind.STRUCTURE, 7, 9), "00007.structure.enc"),
        (ObjectName(Kind.WEIGHTS, 12345, 99999), "12345.weights.enc"),
    ],
)
def test_files(name: ObjectName, file: str) -> None:
    assert name.file == file
