from __future__ import annotations

import math

import pytest

from app.fields import FieldError, Fields, parse_json


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "line 1, column 2"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        (b"[NaN]", "NaN isn't a JSON number"),
        (b"[-Infinity]", "-Infinity isn't a JSON number"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "too many digits"),
    ],
)
def test_json_that_the_standard_library_takes_or_trips_over(raw: bytes, said: str) -> None:
    with pytest.raises(FieldError, match=said):
        parse_json(raw)


def test_repeated_key_among_very_many_is_found_in_one_pass() -> None:
    """Counting every key in all of them would take an hour here."""
    keys = ",".join(f'"{number}":0' for number in range(300_000))
    with pytest.raises(FieldError, match="'299999' is given twice"):
        parse_json(f'{{{keys},"299999":0}}'.encode())


@pytest.mark.parametrize(
    ("value", "method", "arguments", "said"),
    [
        (1, "text", {}, r"here\.f: expected a string, got the number 1"),
        ("ab", "text", {"longest": 1}, "2 characters, at most 1"),
        ("a\0", "text", {}, "holds a NUL"),
        ("\ud800", "text", {}, "half a character"),
        (1, "flag", {}, "expected true or false, got the number 1"),
        (True, "integer", {"least": 0, "most": 9}, "a whole number, got the truth value true"),
        (1.0, "integer", {"least": 0, "most": 9}, "a whole number"),
        (10, "integer", {"least": 0, "most": 9}, "expected 0 to 9, got 10"),
        (10**40, "integer", {"least": 0, "most": 9}, "got beyond 2"),
        (True, "number", {}, "expected a number, got the truth value"),
        (10**400, "number", {}, "expected a finite number"),
        (math.inf, "number", {}, "expected a finite number"),
        ([1, "x"], "numbers", {}, "expected a number, got the string"),
        (["a", None], "texts", {"most": 2}, "expected strings, got null"),
        (["a", "\0"], "texts", {"most": 2}, "holds a NUL"),
        ("abc", "array", {}, "expected an array"),
        ([1, 2], "array", {"most": 1}, "2 items, at most 1"),
        ([], "inner", {}, "expected an object, got an array"),
        ("z", "choice", {"allowed": ("x", "y")}, "expected 'x' or 'y', got the string \"z\""),
    ],
)
def test_ill_typed_field(
    value: object, method: str, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(FieldError, match=said):
        getattr(Fields({"f": value}, "here"), method)("f", **arguments)


def test_missing_field_is_named() -> None:
    with pytest.raises(FieldError, match="here: the field 'f' is missing"):
        Fields({}, "here").integer("f", least=0, most=1)


def test_field_that_nobody_took_is_refused() -> None:
    fields = Fields({"a": 1, "c": 2, "b": 3}, "here")
    fields.take("a")
    with pytest.raises(FieldError, match=r"here: unknown field\(s\) 'b', 'c'"):
        fields.done()


def test_field_taken_twice_is_missing_the_second_time() -> None:
    fields = Fields({"a": 1}, "here")
    fields.take("a")
    assert not fields.has("a")
    with pytest.raises(FieldError, match="missing"):
        fields.take("a")


def test_each_refuses_unknown_fields_of_an_item_and_says_which() -> None:
    fields = Fields({"items": [{"a": "x"}, {"a": "y", "b": 1}]}, "here")
    with pytest.raises(FieldError, match=r"here\.items\[1\]: unknown field\(s\) 'b'"):
        fields.each("items", lambda each: each.text("a"), most=9)


def test_reading_leaves_the_given_object_alone() -> None:
    value = {"a": 1}
    Fields(value, "here").take("a")
    assert value == {"a": 1}


def test_long_content_is_cut_in_messages() -> None:
    with pytest.raises(FieldError) as error:
        Fields({"f": "x" * 5000}, "here").flag("f")
    assert len(str(error.value)) < 200
