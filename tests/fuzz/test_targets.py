"""The targets without a fuzzer: their seeds, and seeded changes to them."""

from __future__ import annotations

import tracemalloc
from random import Random
from types import ModuleType
from typing import Final, NoReturn

import pytest

from app.limits import KIB, MIB
from app.server.routes import infer
from tests.fuzz import exchange, seeds, targets
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS

COUNTS: Final = {"exchange": 1200, "picture": 1200}
"""Changed inputs of the targets that take longest."""
COUNT: Final = 2500
MEASURED: Final = 100

READERS: Final[tuple[tuple[str, ModuleType, str], ...]] = (
    ("oip", targets, "decode_request"),
    ("compression", targets, "inflate"),
    ("form", targets, "form_file"),
    ("manifest", targets, "parse_manifest"),
    ("structure", targets, "parse_structure"),
    ("card", targets, "read_card"),
    ("policy", targets, "parse_policy"),
    ("framing", targets, "scan"),
    ("picture", targets, "picture_tensor"),
    ("exchange", exchange, "scan"),
    ("exchange", infer, "decode_request"),
)
"""What each target fuzzes."""

MOST_BYTES_PER_BYTE: Final = 64
"""Of Python's and numpy's memory for each byte of an input: objects of JSON, and their messages."""
MOST_BYTES: Final = 512 * KIB
"""Besides: what inflating may give, a small picture, an exchange with its answer."""


def _changed(target: str, count: int) -> list[bytes]:
    random = Random(target)
    given = list(seeds.read(target).values())
    return [mutated(random.choice(given), random) for _ in range(count)]


def test_every_target_has_its_seeds() -> None:
    assert {path.name for path in seeds.CORPUS.iterdir()} == set(TARGETS)
    for name in TARGETS:
        assert len(seeds.read(name)) >= 2


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_changed_seeds_break_no_law(target: str) -> None:
    for raw in seeds.read(target).values():
        TARGETS[target](raw)
    for raw in _changed(target, COUNTS.get(target, COUNT)):
        TARGETS[target](raw)


@pytest.mark.parametrize("target", TARGETS)
def test_a_stranger_gets_little_memory(target: str) -> None:
    inputs = [*seeds.read(target).values(), *_changed(target, MEASURED)]
    TARGETS[target](inputs[0])  # what is made once
    tracemalloc.start()
    try:
        for raw in inputs:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            TARGETS[target](raw)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < MOST_BYTES + MOST_BYTES_PER_BYTE * len(raw)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "raw", [b"", b"a", b"\0", b"\r\n\r\n", b"[" * 100_000, b"\xff" * (1 * MIB)]
)
@pytest.mark.parametrize("target", TARGETS)
def test_extremes_break_no_law(target: str, raw: bytes) -> None:
    TARGETS[target](raw)


@pytest.mark.parametrize(("target", "module", "name"), READERS)
def test_an_error_that_is_not_ours_is_seen(
    target: str, module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed reaches what is fuzzed, and no handler on the way hides what it raises."""

    def broken(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("broken for a test")

    monkeypatch.setattr(module, name, broken)
    with pytest.raises(ZeroDivisionError, match="broken for a test"):
        for raw in seeds.read(target).values():
            TARGETS[target](raw)


@pytest.mark.parametrize(
    "wrong",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
    ],
)
def test_a_wrong_answer_is_seen(wrong: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_served", lambda *_: wrong)
    with pytest.raises((AssertionError, KeyError)):
        exchange.exchange(seeds.read("exchange")["infer"])


def test_changes_are_the_same_at_every_run() -> None:
    assert _changed("oip", 50) == _changed("oip", 50)
    assert len(set(_changed("oip", 50))) > 40
