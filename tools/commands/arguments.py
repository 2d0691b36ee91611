"""Kinds of arguments that several command lines take."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Final

from app.limits import MAX_BATCH, MAX_DELAY_US
from tools.confinement.child import TIME_LIMIT_S
from tools.errors import ServingError
from tools.serving_client.connection import parse_url
from tools.sizes import parse_size

_MOST_SECONDS: Final = 86_400


def count(text: str) -> int:
    """Reads a number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def together(text: str) -> int:
    """Reads a number of requests that run together."""
    number = count(text)
    if number > MAX_BATCH:
        raise ArgumentTypeError(f"expected at most {MAX_BATCH}, got {text!r}")
    return number


def delay_us(text: str) -> int:
    """Reads how long a request may be kept waiting for others, in microseconds."""
    if not text.isdecimal() or int(text) > MAX_DELAY_US:
        raise ArgumentTypeError(f"expected 0 to {MAX_DELAY_US}, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """Reads a number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def seconds(text: str) -> float:
    """Reads a time to wait: above 0, at most a day."""
    value = _number(text)
    if not 0 < value <= _MOST_SECONDS:
        raise ArgumentTypeError(
            f"expected seconds, above 0 and at most {_MOST_SECONDS} (a day), got {text!r}"
        )
    return value


def url(text: str) -> str:
    """Reads https://HOST:PORT."""
    try:
        parse_url(text)
    except ServingError as error:
        raise ArgumentTypeError(str(error)) from error
    return text


def add_limits(found: ArgumentParser) -> None:
    """Adds the options of a command that works on a model in a confined process."""
    group = found.add_argument_group("limits of the process that works on the model")
    group.add_argument(
        "--time-limit",
        type=seconds,
        default=TIME_LIMIT_S,
        metavar="SECONDS",
        help="end it after this time (%(default)s)",
    )
    group.add_argument(
        "--memory-limit",
        type=parse_size,
        metavar="SIZE",
        help="most memory that it may allocate, as 8GiB (three quarters of the machine's); files "
        "of weights aren't counted",
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
