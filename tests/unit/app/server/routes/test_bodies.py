from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from app.errors import BusyError, CancelledError, InputError, PayloadTooLargeError
from app.limits import (
    JSON_EXPANSION,
    MAX_BODY_BYTES,
    MAX_DECODED_BYTES,
    MAX_JSON_BYTES,
    MAX_PICTURE_PIXELS,
    MIB,
)
from app.server.routes.bodies import DecodedRoom, form_file
from app.serving.accounts import Accounts

WATCHDOG_S = 20


class Waiting:
    """Requests of tenants, each in a thread of its own, that hold their share until told."""

    def __init__(self, room: DecodedRoom) -> None:
        self.room = room
        self.entered: list[str] = []
        self._changed = threading.Condition()
        self._proceed: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, name: str, size_bytes: int) -> None:
        """Asks for a tenant, the first letter of `name`; returns when it has a share or waits."""
        self._proceed[name] = threading.Event()
        looked = threading.Event()
        thread = threading.Thread(target=self._hold, args=(name, size_bytes, looked))
        self._threads.append(thread)
        thread.start()
        assert looked.wait(WATCHDOG_S)

    def _hold(self, name: str, size_bytes: int, looked: threading.Event) -> None:
        def gone() -> bool:
            looked.set()
            return False

        with self.room.hold(name[0], size_bytes, gone):
            with self._changed:
                self.entered.append(name)
                self._changed.notify_all()
            looked.set()
            assert self._proceed[name].wait(WATCHDOG_S)

    def until(self, *names: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.entered == list(names), WATCHDOG_S), (
                self.entered
            )

    def end(self, name: str) -> None:
        self._proceed[name].set()

    def close(self) -> None:
        for event in self._proceed.values():
            event.set()
        for thread in self._threads:
            thread.join(WATCHDOG_S)
            assert not thread.is_alive()


@contextmanager
def waiting(room: DecodedRoom) -> Iterator[Waiting]:
    found = Waiting(room)
    try:
        yield found
    finally:
        found.close()


def test_large_requests_wait_for_room_and_small_ones_do_not() -> None:
    room = DecodedRoom(Accounts(), 9 * MIB)
    with waiting(room) as requests:
        for name in ("a", "b", "c"):
            requests.ask(name, 4 * MIB)
        requests.until("a", "b")
        with room.hold("d", 1000):
            pass
        requests.end("b")
        requests.until("a", "b", "c")
    with room.hold("a", 9 * MIB):  # everything was given back
        pass


def test_what_is_decoded_is_smaller_than_decoding() -> None:
    room = DecodedRoom(Accounts(), 9 * MIB)
    with waiting(room) as requests, room.hold("a", 8 * MIB) as share:
        requests.ask("b", 5 * MIB)
        requests.until()
        room.shrink(share, 4 * MIB)
        requests.until("b")
        room.shrink(share, 6 * MIB)
        assert share.size_bytes == 4 * MIB, "it doesn't grow"


def test_a_tenant_that_asks_for_much_lets_others_go_first() -> None:
    """Attack: one tenant keeps the whole room wanted; what others ask for goes before it."""
    accounts = Accounts()
    accounts.charge("a", 1)
    with waiting(DecodedRoom(accounts, 10 * MIB)) as requests:
        for name in ("a1", "a2", "a3"):
            requests.ask(name, 9 * MIB)
        for name in ("b1", "c1"):
            requests.ask(name, 6 * MIB)
        requests.until("a1")
        requests.end("a1")
        requests.until("a1", "b1")
        requests.end("b1")
        requests.until("a1", "b1", "c1")
        requests.end("c1")
        requests.until("a1", "b1", "c1", "a2")
        requests.end("a2")
        requests.until("a1", "b1", "c1", "a2", "a3")


def test_many_requests_of_a_tenant_have_no_more_than_they_leave() -> None:
    with waiting(DecodedRoom(Accounts(), 12 * MIB)) as requests:
        for name in ("a1", "a2", "a3"):
            requests.ask(name, 3 * MIB)
        requests.until("a1", "a2")
        requests.ask("b1", 5 * MIB)
        requests.until("a1", "a2", "b1")
        requests.end("a1")
        requests.ask("c1", 1 * MIB)
        requests.ask("c2", 4 * MIB)
        requests.until("a1", "a2", "b1", "c1", "c2")
        requests.end("b1")
        requests.end("c2")
        requests.until("a1", "a2", "b1", "c1", "c2", "a3")


def test_small_requests_do_not_pass_a_large_one_for_ever() -> None:
    """Attack: two clients take turns, so that there is never room for a third one's large one."""
    with waiting(DecodedRoom(Accounts(), 12 * MIB)) as requests:
        requests.ask("a1", 4 * MIB)
        requests.ask("b1", 4 * MIB)
        requests.ask("c1", 12 * MIB)
        requests.end("a1")
        requests.ask("a2", 4 * MIB)
        requests.until("a1", "b1")
        requests.end("b1")
        requests.until("a1", "b1", "c1")
        requests.end("c1")
        requests.until("a1", "b1", "c1", "a2")


def test_room_is_given_back_after_an_error() -> None:
    room = DecodedRoom(Accounts(), 3 * MIB)
    for _ in range(3):
        # More than there is gets all there is.
        with pytest.raises(ZeroDivisionError), room.hold("a", 100 * MIB):
            raise ZeroDivisionError


def test_who_leaves_or_waits_too_long_is_given_up() -> None:
    room = DecodedRoom(Accounts(), 4 * MIB, wait_s=0)
    with room.hold("a", 4 * MIB):
        with pytest.raises(CancelledError), room.hold("b", 4 * MIB, lambda: True):
            raise AssertionError("nobody waits for this")
        with pytest.raises(BusyError, match="try again"), room.hold("b", 4 * MIB):
            raise AssertionError("there was no room")
    with room.hold("b", 4 * MIB):
        pass


def test_the_largest_requests_have_room() -> None:
    assert 2 * MAX_BODY_BYTES <= MAX_DECODED_BYTES
    assert (JSON_EXPANSION + 5) * MAX_JSON_BYTES <= MAX_DECODED_BYTES
    assert 12 * MAX_PICTURE_PIXELS + MAX_BODY_BYTES <= MAX_DECODED_BYTES


def test_no_room_is_lost_however_requests_end() -> None:
    room = DecodedRoom(Accounts(), 8 * MIB)
    with ExitStack() as held:
        for name in ("a", "b"):
            room.shrink(held.enter_context(room.hold(name, 3 * MIB)), 0)
        with room.hold("c", 8 * MIB):
            pass


PART = (
    b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\nContent-Type: image/png\r\n\r\n%s\r\n'
)
FILE = b'; filename="a.png"'
END = b"--B--\r\n"


def part(content: bytes, name: bytes = b"image", file: bytes = FILE) -> bytes:
    return PART % (name, file, content)


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (part(b"abc") + END, b"abc"),
        (b"preamble\r\n" + part(b"abc") + END + b"epilogue", b"abc"),
        (part(b"") + END, b""),
        (part(b"\r\n\r\n--\r\n-B") + END, b"\r\n\r\n--\r\n-B"),
        (part(b"\r\n--Bx\r\n--B x\r\n--B-") + END, b"\r\n--Bx\r\n--B x\r\n--B-"),
        (part(b"a\r\n--" * 700_000) + END, b"a\r\n--" * 700_000),
        (part(b"abc").replace(b"--B\r\n", b"--B \t\r\n") + END, b"abc"),
        (part(b"x", b"other") + part(b"abc") + END, b"abc"),
        (part(b"text", file=b"") + part(b"abc") + part(b"second") + END, b"abc"),
        (
            part(b"abc").replace(b"Content-D", b"content-d").replace(b'"image"', b"image") + END,
            b"abc",
        ),
    ],
)
def test_file_of_a_form(body: bytes, content: bytes) -> None:
    found = form_file(body, "B", "image")
    assert found == content
    assert found.obj is body, "not a copy"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--B",
        b"--B\r\n",
        END,
        part(b"abc"),  # never ends
        part(b"abc", b"other") + END,
        part(b"abc", file=b"") + END,
        END + part(b"abc") + b"x",
        b"--B\r\n" + b"A: b\r\n" * 100_000 + b"\r\n" + END,
        b"--B\r\n\r\nabc\r\n" + END,
        b"\r\n--" * 100_000,
        b"\r\n--B " + b" " * 100_000,
    ],
)
def test_form_without_the_file(body: bytes) -> None:
    with pytest.raises(InputError, match="no file in a field 'image'"):
        form_file(body, "B", "image")


def test_form_without_a_boundary_or_with_many_parts() -> None:
    with pytest.raises(InputError, match="no file"):
        form_file(part(b"abc") + END, "", "image")
    with pytest.raises(PayloadTooLargeError, match="parts"):
        form_file(part(b"abc", b"other") * 9 + part(b"abc") + END, "B", "image")
