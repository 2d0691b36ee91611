"""One client's connection as a state machine without a socket: bytes and a clock go in.

    HANDSHAKE ─ IDLE ─ HEAD ─ BODY ─ WORKING ─ ANSWER ─┬─ IDLE (keep-alive)
                                                       └─ CLOSING ─ LINGER ─ CLOSED

Every state but WORKING has a deadline. The event loop carries ciphertext between
a `Connection` and its socket, hands complete requests on and brings answers
back. All of it happens in one thread, one request of a connection at a time:
what was pipelined behind it waits for `advance`.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Sequence
from io import BytesIO
from typing import Final

from app.access.admission import Gate, Pass, Refusal
from app.limits import KIB, MAX_REFUSALS
from app.server.counters import TransportCounters
from app.server.framing import CONTINUE, PLAIN_HTTP, FramingError, Head, json_answer, scan
from app.server.request import Request, address_client, client_of
from app.server.tls.channel import Channel, ChannelState, TlsError
from app.server.transport import STEP_BYTES, TransportLimits
from app.serving.pool import Pool

_SEND_BYTES: Final = 128 * KIB
"""Ciphertext made ahead of the socket: enough to keep it busy, little per slow client."""

_JOIN_BYTES: Final = 16 * KIB
"""Answers up to one TLS record are joined, so that head and body share it."""

_RETRY_AFTER_S: Final = 1

HEALTH: Final = {
    b"/v2/health/live": b'{"live":true}\n',
    b"/v2/health/ready": b'{"ready":true}\n',
}
"""The protocol's answers about the server, open to everybody: it listens once it is ready."""


class Phase(enum.Enum):
    """What a connection waits for."""

    HANDSHAKE = enum.auto()
    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    WORKING = enum.auto()
    ANSWER = enum.auto()
    CLOSING = enum.auto()
    """For the last bytes to go out."""
    LINGER = enum.auto()
    """For the client to close; its bytes are thrown away."""
    CLOSED = enum.auto()


class Connection:
    """The state of one connection.

    Attributes:
        client: whose it is, as `app.serving.accounts` tells them apart: an address until a request
            is let in, then that request's.
        phase: what it waits for.
        deadline: when `expire` is to be called, on the caller's clock.
        starved: a body waits for room; `advance` tries again.
        refusals: requests in a row that weren't let in, for whose they were or what they asked for.
        closing_soon: no further request is read after the present one.
    """

    def __init__(
        self,
        channel: Channel,
        address: tuple[str, int],
        room: Pool,
        limits: TransportLimits,
        *,
        gate: Gate,
        server_name: str,
        now: float,
        counters: TransportCounters | None = None,
    ) -> None:
        self._channel = channel
        self._address = address
        self._room = room
        self._limits = limits
        self._gate = gate
        self._counters = counters or TransportCounters()
        self._server_name = server_name
        self._inbox = bytearray()
        self._out = memoryview(b"")
        self._answer: deque[memoryview] = deque()
        self._answer_deadline = math.inf
        self._request: Request | None = None
        self._ready = False
        self._body_began = 0.0
        self._continue_due = False
        self._skip_bytes = 0
        self.refusals = 0
        self._asked_health = False
        self._address_client = address_client(address[0])
        self.client = self._address_client
        self.phase = Phase.HANDSHAKE
        self.deadline = now + limits.handshake_timeout_s
        self.starved = False
        self.closing_soon = False

    # --- what the loop asks --------------------------------------------------------------------

    @property
    def wants_read(self) -> bool:
        """Whether the socket is to be read now; otherwise the client has to wait."""
        if self.phase is Phase.CLOSED or self._out:
            return False
        if self.phase in (Phase.WORKING, Phase.ANSWER):
            return len(self._inbox) < self._limits.max_head_bytes
        return not self.starved

    @property
    def is_background(self) -> bool:
        """Whether what comes next may wait: a handshake, a large body, or of a stranger."""
        if self.phase is Phase.BODY and self._request is not None:
            return self._request.missing_bytes > STEP_BYTES
        return self.phase is Phase.HANDSHAKE or self.refusals > 0 or self._asked_health

    @property
    def has_pipelined(self) -> bool:
        """Whether bytes of a further request are here already; `advance` looks at them."""
        return self.phase is Phase.IDLE and len(self._inbox) > 0

    def outgoing(self) -> memoryview:
        """Gives ciphertext for the socket, encrypting more of the answer when none is left."""
        if not self._out:
            self._out = memoryview(self._encrypt_more())
        return self._out

    def take_request(self) -> Request | None:
        """Hands a complete request over, once; `answer` has to follow."""
        if not self._ready:
            return None
        self._ready = False
        return self._request

    # --- what happens --------------------------------------------------------------------------

    def receive(self, ciphertext: bytes, now: float) -> None:
        """Takes bytes from the socket; b"" is the end of the stream."""
        if not ciphertext:
            self.drop()
        if self.phase in (Phase.CLOSING, Phase.LINGER, Phase.CLOSED):
            return
        if self.phase is Phase.HANDSHAKE and PLAIN_HTTP.match(ciphertext):
            self._refuse_plain(now)
            return
        try:
            self._decrypt(ciphertext, now)
        except TlsError:
            self._fail()

    def sent(self, size: int, now: float) -> None:
        """Notes that the socket took `size` bytes of what `outgoing` gave."""
        self._out = self._out[size:]
        if self.phase is Phase.ANSWER:
            self.deadline = min(self._answer_deadline, now + self._limits.response_timeout_s)

    def flushed(self, now: float) -> bool:
        """Notes that `outgoing` has nothing left; True when something new may have to go out."""
        if self.phase is Phase.ANSWER:
            self._request = None
            if not self.closing_soon:
                self._enter(Phase.IDLE, now + self._limits.keep_alive_s)
            else:
                self.close(now)
            return True
        if self.phase is Phase.CLOSING:
            self._enter(Phase.LINGER, now + self._limits.linger_s)
        return False

    def answer(self, chunks: Sequence[bytes], keep_open: bool, now: float) -> None:
        """Starts to send an answer; one to a connection that is closed is thrown away."""
        if self.phase is Phase.CLOSED:
            return
        self._counters.answered(chunks)
        size = sum(map(len, chunks))
        if self._request is not None:
            self._request.entry.charge(size, now)
        if size <= _JOIN_BYTES:
            chunks = [b"".join(chunks)]
        self._answer.extend(memoryview(chunk) for chunk in chunks if chunk)
        keep_open = keep_open and (self._request is None or self._request.head.keep_alive)
        self.closing_soon = self.closing_soon or not keep_open
        self._answer_deadline = (
            now + self._limits.response_timeout_s + size / self._limits.min_body_bytes_per_s
        )
        self._enter(Phase.ANSWER, now + self._limits.response_timeout_s)

    def answer_busy(self, request: Request, now: float) -> None:
        """Answers a request with 503 that no worker will get; the connection stays open."""
        busy = Refusal(503, "the server is busy, try again", _RETRY_AFTER_S)
        self._turn_away(request.head, busy, request.head.keep_alive, now)

    def advance(self, now: float) -> None:
        """Goes from the received bytes as far as they lead: to one request, or one refusal.

        It is to be called for what was pipelined, and again for a starved body.
        """
        if self.phase in (Phase.IDLE, Phase.HEAD):
            self._read_head(now)
        if self.phase is Phase.BODY:
            self._read_body(now)

    def expire(self, now: float) -> None:
        """Acts on the deadline: says so where a client may listen, else closes."""
        if self.phase is Phase.IDLE:
            self.close(now)
        elif self.phase is Phase.HEAD:
            self._refuse(408, "the request's headers took too long", now)
        elif self.phase is Phase.BODY and self.starved:
            self._refuse(503, "too many large requests at once, try again", now)
        elif self.phase is Phase.BODY:
            self._refuse(408, "the request's body took too long", now)
        else:
            self.drop()

    def close(self, now: float) -> None:
        """Closes in good order: what is encrypted goes out, then close_notify."""
        if self.phase in (Phase.CLOSING, Phase.LINGER, Phase.CLOSED):
            return
        if self.phase is Phase.HANDSHAKE:
            self.drop()
            return
        self._forget_body()
        self._channel.close_notify()
        self._enter(Phase.CLOSING, now + self._limits.linger_s)

    def drop(self) -> None:
        """Gives the connection up at once; a request at work becomes abandoned."""
        if self.phase is Phase.HANDSHAKE:
            self._counters.handshake_failures += 1
        self._forget_body()
        if self._request is not None:
            self._request.abandoned = True
        self._request = None
        self._answer.clear()
        self._inbox.clear()
        self._out = memoryview(b"")
        self._enter(Phase.CLOSED, math.inf)

    # --- inside --------------------------------------------------------------------------------

    def _enter(self, phase: Phase, deadline: float) -> None:
        self.phase = phase
        self.deadline = deadline

    def _decrypt(self, ciphertext: bytes, now: float) -> None:
        self._channel.feed(ciphertext)
        if self.phase is Phase.HANDSHAKE:
            if not self._channel.handshake():
                return
            self._counters.handshakes += 1
            self._enter(Phase.IDLE, now + self._limits.keep_alive_s)
        self._inbox += self._channel.read()
        if self._channel.state is ChannelState.ENDED:
            # RFC 5246 §7.2.1: pending writes are discarded, so nobody waits for an answer.
            self.drop()
            return
        self.advance(now)

    def _read_head(self, now: float) -> None:
        if not self._skip():
            return
        try:
            head = scan(self._inbox, self._limits.max_head_bytes, self._limits.max_body_bytes)
        except FramingError as error:
            self._refuse(error.status, error.reason, now)
            return
        if head is not None:
            del self._inbox[: head.consumed_bytes]
            self._let_in(head, now)
        elif self._inbox and self.phase is Phase.IDLE:
            self._enter(Phase.HEAD, now + self._limits.head_timeout_s)

    def _let_in(self, head: Head, now: float) -> None:
        """Asks the gate before anything is set aside for the body."""
        entry = self._gate.admit(head, self._channel.peer_fingerprint, now)
        if isinstance(entry, Pass) and head.body_bytes and not _takes_body(head, entry):
            entry.release()
            entry = Refusal(413, "this method and path take no body; send none")
        if isinstance(entry, Pass) and head.path in HEALTH:
            self._answer_health(head, now)
            return
        if isinstance(entry, Refusal):
            self.client = self._address_client
            self._skip_bytes = head.body_bytes
            # A client that waits for "100 Continue" may leave the body out: only closing is clear.
            small = head.body_bytes <= self._limits.max_skipped_bytes and not head.expects_continue
            # A tenant that asks too often is told when to come again, and keeps its connection.
            self.refusals += entry.retry_after_s is None
            keep_open = head.keep_alive and small and self.refusals < MAX_REFUSALS
            self._turn_away(head, entry, keep_open, now)
            return
        self.refusals, self._asked_health = 0, False
        self.client = client_of(entry, self._address_client)
        self._request = Request(head, BytesIO(), self._address, entry, self.client)
        self._continue_due = head.expects_continue
        self._body_began = now
        self._enter(Phase.BODY, now + self._limits.body_timeout_s)

    def _answer_health(self, head: Head, now: float) -> None:
        """Answers here, not in a worker: it costs little, and probes never wait behind requests."""
        self._asked_health = True
        is_read = head.method in (b"GET", b"HEAD")
        answer = json_answer(
            200 if is_read else 405,
            HEALTH[head.path] if is_read else "health takes GET and HEAD",
            self._server_name,
            keep_alive=head.keep_alive,
            head_only=head.method == b"HEAD",
            headers=() if is_read else (("Allow", "GET, HEAD"),),
        )
        self.answer([answer], head.keep_alive, now)

    def _skip(self) -> bool:
        """Throws the body of a refused request away as it comes; True once it is gone."""
        size = min(self._skip_bytes, len(self._inbox))
        del self._inbox[:size]
        self._skip_bytes -= size
        return not self._skip_bytes

    def _turn_away(self, head: Head, refusal: Refusal, keep_open: bool, now: float) -> None:
        self._counters.refused(refusal.status)
        answer = json_answer(
            refusal.status,
            refusal.message,
            self._server_name,
            keep_alive=keep_open,
            head_only=head.method == b"HEAD",
            headers=refusal.headers,
        )
        self.answer([answer], keep_open, now)

    def _read_body(self, now: float) -> None:
        request = self._request
        if request is None or not self._has_room(request, now):
            return
        size = min(request.missing_bytes, len(self._inbox))
        if size:
            self._continue_due = False
            request.body.write(self._inbox[:size])
            del self._inbox[:size]
        if request.missing_bytes:
            if self._continue_due:
                self._continue_due = False
                self._channel.write(CONTINUE)
            # It may go on for as long as it has come at the least rate, and the grace.
            earned_s = request.body.tell() / self._limits.min_body_bytes_per_s
            self.deadline = self._body_began + self._limits.body_timeout_s + earned_s
            return
        request.body.getvalue()  # trims the buffer, so that read() of everything can share it
        request.body.seek(0)
        self._ready = True
        self._enter(Phase.WORKING, math.inf)

    def _has_room(self, request: Request, now: float) -> bool:
        """Takes room for the whole body, once: a body that has begun can always be completed."""
        if not request.held_bytes and request.head.body_bytes:
            if not self._room.take(request.client, request.head.body_bytes):
                if not self.starved:
                    self.starved, self.deadline = True, now + self._limits.room_timeout_s
                return False
            request.held_bytes = request.head.body_bytes
            self._body_began = now
        self.starved = False
        return True

    def _refuse(self, status: int, reason: str, now: float) -> None:
        self._forget_body()
        self._request = None
        self.answer([json_answer(status, reason, self._server_name)], False, now)

    def _forget_body(self) -> None:
        """Gives the room of a body back that no worker will get."""
        self.starved = False
        if self._request is not None and (self.phase is Phase.BODY or self._ready):
            self._request.release(self._room)
            self._request = None
        self._ready = False

    def _refuse_plain(self, now: float) -> None:
        """Answers HTTP without TLS in clear text; no byte of it reached TLS or anything else."""
        self._counters.handshake_failures += 1
        message = "this port speaks TLS; use https://"
        self._out = memoryview(json_answer(400, message, self._server_name))
        self._enter(Phase.CLOSING, now + self._limits.linger_s)

    def _fail(self) -> None:
        """TLS failed: the alert may go out, nothing else."""
        self.drop()
        self._out = memoryview(self._channel.take_ciphertext())

    def _encrypt_more(self) -> bytes:
        ciphertext = self._channel.take_ciphertext()
        if ciphertext or not self._answer:
            return ciphertext
        room = _SEND_BYTES
        while room and self._answer:
            piece = self._answer[0][:room]
            rest = self._answer.popleft()[len(piece) :]
            if rest:
                self._answer.appendleft(rest)
            self._channel.write(piece)
            room -= len(piece)
        return self._channel.take_ciphertext()


def _takes_body(head: Head, entry: Pass) -> bool:
    """Whether a body may be sent: not by strangers, and where RFC 9110 §9.3 gives it a meaning."""
    return entry.admission is not None and head.method not in (b"GET", b"HEAD")
