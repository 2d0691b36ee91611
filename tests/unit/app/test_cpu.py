"""The class of CPU, from what the kernel says of it."""

from __future__ import annotations

import inspect

import pytest

from app.cpu import ANY, CLASSES, cpu_class, cpu_problems, this_cpu


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


def test_numpy_still_says_what_the_cpu_has() -> None:
    assert inspect.signature(cpu_problems).parameters["features"].default["AVX512F"] in {
        True,
        False,
    }


@pytest.mark.parametrize(
    ("told", "features", "differs"),
    [
        ("x86-64-avx512", {"AVX512F": True}, False),
        ("x86-64", {"AVX512F": False}, False),
        ("x86-64", {}, False),
        ("x86-64-avx512", {"AVX512F": False, "AVX2": True}, True),
        ("x86-64-avx512", {}, True),
        ("x86-64", {"AVX512F": True}, True),
    ],
)
def test_a_text_that_the_cpu_contradicts(
    told: str, features: dict[str, bool], differs: bool
) -> None:
    """The host shows the text; it can't give registers that aren't there."""
    found = cpu_problems(told, features)
    assert list(found) == (["insecure_cpu_class"] if differs else [])
    assert all(told in what for what in found.values())
