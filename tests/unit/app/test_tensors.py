from __future__ import annotations

import numpy as np
import pytest

from app.errors import InputError
from app.fields import FieldError, Fields
from app.tensors import BFLOAT16, Array, TensorSpec, aligned_buffer, read_spec

SPEC = TensorSpec("x", "float32", ("batch", 3))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (np.zeros((1, 3)), "expected float32, got float64"),
        (np.zeros((1, 4), "f4"), r"expected shape \['batch', 3\], got \[1, 4\]"),
        (np.zeros(3, "f4"), r"got \[3\]"),
        (np.array([["a"] * 3]), "got string"),
        (np.array([["a"] * 3], dtype=object), "got string"),
    ],
)
def test_tensor_that_does_not_fit(tensor: Array, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SPEC.check(tensor)


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_symbolic_dimension_takes_any_size(batch: int) -> None:
    SPEC.check(np.zeros((batch, 3), "f4"))


def test_unknown_rank_takes_any_shape() -> None:
    TensorSpec("x", "float32", None).check(np.zeros((1, 2, 3), "f4"))


@pytest.mark.parametrize(
    ("spec", "sizes", "expected"),
    [
        (SPEC, {}, 12),
        (SPEC, {"batch": 4}, 48),
        (TensorSpec("x", "float32", ()), {}, 4),
        (TensorSpec("x", "float32", (0, 5)), {}, 0),
        (TensorSpec("x", "float32", None), {}, None),
        (TensorSpec("x", "string", (2,)), {}, None),
    ],
)
def test_size(spec: TensorSpec, sizes: dict[str, int], expected: int | None) -> None:
    assert spec.bytes_with(sizes) == expected


@pytest.mark.parametrize(
    "shape", [[-1], [True], [1.5], [None], "abc", [1] * 33, [1 << 40], ["a\0"] * 40]
)
def test_shape_that_is_none(shape: object) -> None:
    with pytest.raises(FieldError, match="shape"):
        read_spec(Fields({"name": "x", "dtype": "float32", "shape": shape}, "here"))


def test_unknown_element_type() -> None:
    with pytest.raises(FieldError, match="dtype"):
        read_spec(Fields({"name": "x", "dtype": "float8", "shape": []}, "here"))


@pytest.mark.parametrize("size_bytes", [1, 63, 64, 1000])
def test_buffer_is_aligned_and_as_large_as_asked(size_bytes: int) -> None:
    for _ in range(10):
        buffer = aligned_buffer(size_bytes)
        assert buffer.nbytes == size_bytes
        assert buffer.ctypes.data % 64 == 0


def test_bfloat16_is_no_whole_number() -> None:
    """Bits that numpy has no number type for keep their name, and are refused as others."""
    bits = np.zeros(2, np.uint16)
    spec = TensorSpec("x", "bfloat16", (2,))
    spec.check(bits.view(BFLOAT16))
    with pytest.raises(InputError, match="expected bfloat16, got uint16"):
        spec.check(bits)
    with pytest.raises(InputError, match="expected uint16, got bfloat16"):
        TensorSpec("x", "uint16", (2,)).check(bits.view(BFLOAT16))
