"""The class of CPU, from what the kernel says of it."""

from __future__ import annotations

import pytest

from app.cpu import ANY, CLASSES, cpu_class, this_cpu


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f fma\n", "x86-64-avx512"),
        ("flags : fpu avx2 fma\n", "x86-64"),
        ("flags : avx2\nprocessor : 1\nflags : avx512f\n", "x86-64"),
        ("vmx flags : avx512f\n", "x86-64"),
        ("", "x86-64"),
    ],
)
def test_class_of_a_cpu(text: str, expected: str) -> None:
    assert cpu_class(text) == expected


def test_this_machine_has_one() -> None:
    assert this_cpu() in CLASSES
    assert this_cpu() != ANY
