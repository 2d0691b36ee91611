from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b2J", "\\x9b2J"),  # the same with one character of C1
        ("\x7f\b\0", "\\x7f\\x08\\x00"),
        ("safe\u202eexe.", "safe\\u202eexe."),
        ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u2028\u2029\ufeff\u200b\u00ad", "\\u2028\\u2029\\ufeff\\u200b\\xad"),
        ("\ud800\U000e0041\ue000", "\\ud800\\U000e0041\\ue000"),
        (
            "Größe 日本 \U0001f469\u200d\U0001f680 ‰ 5 €",
            "Größe 日本 \U0001f469\u200d\U0001f680 ‰ 5 €",
        ),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_is_kept() -> None:
    assert printable("a\nb\x1bc", keep="\n") == "a\nb\\x1bc"


@given(st.text())
def test_nothing_printable_is_changed_and_nothing_else_stays(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert all(
        each.isprintable() or each in "\u200c\u200d\u3000\xa0" or each.isspace() for each in shown
    )
    assert not set(shown) & set(map(chr, (*range(32), *range(127, 160))))
