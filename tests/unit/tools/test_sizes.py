from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from tools.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("85MiB", 85 << 20), ("1.5 KiB", 1536), ("2GiB", 2 << 30), ("0.5KiB", 512)],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "85",
        "",
        "MiB",
        "85MB",
        "85M",
        "85mib",
        "-1MiB",
        "0B",
        "0MiB",
        "0.4B",
        "1e3B",
        "1MiB ",
        "１MB",
    ],
)
def test_text_that_is_no_size(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (85 << 20, "85.0 MiB"), (3 << 29, "1.5 GiB")],
)
def test_written_with_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text
