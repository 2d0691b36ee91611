"""Strict reading of JSON: unknown, missing and ill-typed fields are errors that say where."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

T = TypeVar("T")

_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")
"""NUL ends file names in C; halves of surrogate pairs have no UTF-8 form."""
_LONG_BYTES: Final = 1 << 16
"""A longer text has its numbers made by Python functions: between two of them other threads run,
while the parser's own C code would keep them waiting until its end."""
_MOST_NAMED: Final = 5
"""Unknown fields that a message names: it is sent back, so it must not grow with the input."""


class FieldError(ValueError):
    """A JSON text that doesn't have the required form; the message says where and what."""


def parse_json(raw: bytes) -> object:
    """Parses one UTF-8 JSON text, refusing what the standard library tolerates.

    Args:
        raw: the text; the caller has bounded its size.

    Raises:
        FieldError: for bad UTF-8, bad JSON, a key given twice, NaN or Infinity,
            a whole number of thousands of digits, or nesting deeper than the
            interpreter's recursion limit.
    """
    is_long = len(raw) > _LONG_BYTES
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_int=_whole if is_long else None,
            parse_float=_real if is_long else None,
        )
    except UnicodeDecodeError as error:
        raise FieldError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise FieldError(
            f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise FieldError("nested too deeply") from error
    except FieldError:
        raise
    except ValueError as error:  # Python's own limit on the digits of a whole number
        raise FieldError("a whole number has too many digits") from error


def _whole(text: str) -> int:
    return int(text)


def _real(text: str) -> float:
    return float(text)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FieldError(f"the key {_first_repeated(pairs)[:80]!r} is given twice")
    return found


def _first_repeated(pairs: list[tuple[str, object]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    raise ValueError("no key is repeated")


def _no_constant(name: str) -> NoReturn:
    raise FieldError(f"{name} isn't a JSON number")


class Fields:
    """One JSON object whose fields are taken one after another, then closed.

    `done` must be called last: it refuses every field that nobody took.
    """

    def __init__(self, value: object, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise FieldError(f"{where}: expected an object, got {_kind(value)}")
        self._rest: dict[str, object] = dict(value)

    def has(self, name: str) -> bool:
        """Says whether a field is there and not taken yet."""
        return name in self._rest

    def names(self) -> tuple[str, ...]:
        """Gives the names of the fields not taken yet."""
        return tuple(self._rest)

    def take(self, name: str) -> object:
        """Takes a field of any type."""
        if name not in self._rest:
            raise FieldError(f"{self.where}: the field {name!r} is missing")
        return self._rest.pop(name)

    def take_null(self, name: str) -> bool:
        """Takes a field if it is null; says whether it was."""
        if self._rest.get(name, 0) is not None:
            return False
        del self._rest[name]
        return True

    def text(self, name: str, *, longest: int = 1024) -> str:
        """Takes a string of at most `longest` characters."""
        value = self.take(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string", value)
        if len(value) > longest:
            raise FieldError(
                f"{self.where}.{name}: {len(value)} characters, at most {longest} are allowed"
            )
        self._check_characters(name, value)
        return value

    def _check_characters(self, name: str, value: str) -> None:
        if _UNUSABLE.search(value):
            raise FieldError(f"{self.where}.{name}: holds a NUL or half a character")

    def flag(self, name: str) -> bool:
        """Takes true or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def integer(self, name: str, *, least: int, most: int) -> int:
        """Takes a whole number between two bounds, both included."""
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number", value)
        if not least <= value <= most:
            raise FieldError(
                f"{self.where}.{name}: expected {least} to {most}, got {_short(value)}"
            )
        return value

    def number(self, name: str) -> float:
        """Takes a finite number."""
        return self._as_number(name, self.take(name))

    def numbers(self, name: str) -> tuple[float, ...]:
        """Takes an array of finite numbers."""
        return tuple(self._as_number(name, item) for item in self.array(name))

    def _as_number(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number", value)
        # 1e999 is a JSON number, and infinite as a float.
        if abs(value) > sys.float_info.max:
            raise self.wrong(name, "a finite number", value)
        return float(value)

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """Takes an array of at most `most` strings."""
        items = self.array(name, most=most)
        for item in items:
            if not isinstance(item, str):
                raise self.wrong(name, "strings", item)
            self._check_characters(name, item)
        return tuple(str(item) for item in items)

    def array(self, name: str, *, most: int = 1_000_000) -> Sequence[object]:
        """Takes an array of at most `most` items."""
        value = self.take(name)
        if not isinstance(value, list):
            raise self.wrong(name, "an array", value)
        if len(value) > most:
            raise FieldError(f"{self.where}.{name}: {len(value)} items, at most {most} are allowed")
        return value

    def inner(self, name: str) -> Fields:
        """Takes an object."""
        return Fields(self.take(name), f"{self.where}.{name}")

    def each(self, name: str, read: Callable[[Fields], T], *, most: int) -> tuple[T, ...]:
        """Takes an array of objects and reads each; `read` need not call `done`."""
        found = []
        for index, item in enumerate(self.array(name, most=most)):
            fields = Fields(item, f"{self.where}.{name}[{index}]")
            found.append(read(fields))
            fields.done()
        return tuple(found)

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """Takes one of a few strings."""
        value = self.take(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(name, " or ".join(repr(item) for item in allowed), value)
        return value

    def done(self) -> None:
        """Refuses fields that nobody took."""
        if self._rest:
            names = ", ".join(repr(name[:80]) for name in sorted(self._rest)[:_MOST_NAMED])
            others = f" and {len(self._rest) - _MOST_NAMED} more" * (len(self._rest) > _MOST_NAMED)
            raise FieldError(f"{self.where}: unknown field(s) {names}{others}")

    def wrong(self, name: str, expected: str, value: object) -> FieldError:
        """Makes the error for a field of the wrong kind."""
        return FieldError(
            f"{self.where}.{name}: expected {expected}, got {_kind(value)} {_short(value)}"
        )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "the string", type(None): "null"}
    if isinstance(value, bool):
        return "the truth value"
    return names.get(type(value), "the number")


def _short(value: object) -> str:
    if isinstance(value, dict | list) or value is None:
        return ""
    text = (
        json.dumps(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "beyond 2^64"
    )
    return text if len(text) <= 60 else text[:57] + "…"
