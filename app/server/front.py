"""The event loop: one thread owns every socket and every TLS object.

Workers never touch a socket. They get complete requests and give complete
answers, so a silent, slow or vanished client costs memory within the limits and
never a worker.

What a turn finds ready is looked at in the order of the clients' standing
(`app.serving.accounts`), one request of a connection at a time, and is charged
to them. Handshakes, large bodies and what follows a refused request are
background work, and so is what asks for health: one step at a time, and while
others have requests a rest of up to three times its length after each, as it
holds the interpreter's lock.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Final

from app.access.admission import Gate
from app.server import logs
from app.server.connection import Connection, Phase
from app.server.counters import TransportCounters
from app.server.listener import Listener
from app.server.logs import Event
from app.server.peers import Peer, Peers
from app.server.request import Request, address_client
from app.server.tls.channel import Channel
from app.server.transport import READ_BYTES, STEP_BYTES, TransportLimits
from app.server.waker import Waker
from app.serving.accounts import Accounts
from app.serving.pool import Pool

SWEEP_S: Final = 0.25
"""How often deadlines are looked at, hence how exactly they are kept."""

REST: Final = 3
"""How much longer than a step of a stranger's work the rest after it is: a quarter of the loop's
time is left for it. A handshake of Mbed TLS computes for 2 ms in one piece."""

BODY_REST: Final = 1
"""The same for a step of a body that was let in, which has paid for itself in standing."""

REFUSED_REST_S: Final = 0.05
"""How long a connection isn't read after a refused request while others have requests. Refusing
takes a tenth of a millisecond, but to wake the loop for it takes the interpreter from others."""

_SLICE_S: Final = 0.002
"""After so long the loop asks again who is ready, as whoever comes first in line may be by now."""

Submit = Callable[[Request], bool]
"""Passes a request to the workers without blocking; False when there is no place for it. Otherwise
`Front.deliver` has to follow, once."""

Clock = Callable[[], float]
"""A monotonic clock, in seconds."""


class Front:
    """Accepts, decrypts, dispatches, encrypts, closes.

    Args:
        new_channel: makes the TLS side of a new connection.
        submit: passes a request on.
        gate: lets requests in, asked from `run`'s thread.
        accounts: who goes first, and what the loop's work is charged to.
        server_name: the `Server:` header of answers made here.
        limits: what clients may take.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        *,
        new_channel: Callable[[], Channel],
        submit: Submit,
        gate: Gate,
        accounts: Accounts,
        server_name: str,
        limits: TransportLimits,
        clock: Clock = time.monotonic,
    ) -> None:
        self._new_channel = new_channel
        self._submit = submit
        self._gate = gate
        self._accounts = accounts
        self._server_name = server_name
        self._limits = limits
        self._clock = clock
        self._bodies = Pool(limits.max_buffered_bytes)
        self._answers = Pool(limits.max_buffered_bytes)
        self._selector = DefaultSelector()
        self._listener = Listener(self._selector)
        self._waker = Waker(self._selector)
        self._delivered: deque[tuple[Request, Sequence[bytes], bool]] = deque()
        self._peers = Peers(limits)
        self._working: dict[Request, Peer] = {}
        self._starved: dict[Peer, None] = {}
        self._room_taken = 0
        self._again: dict[Peer, None] = {}
        """With a pipelined request, for which no socket becomes ready."""
        self._background: dict[Peer, float] = {}
        """With background work, and when it may be done at the earliest; the selector leaves them
        alone until their turn."""
        self._rest_ends = {BODY_REST: 0.0, REST: 0.0}
        """When the next step of a body, or of a stranger, may begin."""
        self.counters = TransportCounters()
        self._next_sweep = clock()
        self._stop_asked = False
        self._stop_deadline: float | None = None

    # --- any thread ----------------------------------------------------------------------------

    def deliver(self, request: Request, chunks: Sequence[bytes], keep_open: bool) -> None:
        """Brings the answer to a submitted request; callable from any thread.

        Args:
            request: as it was submitted; its body isn't used any more.
            chunks: the whole HTTP answer in pieces, owned by the loop from now on.
            keep_open: False closes the connection after it.
        """
        self._delivered.append((request, chunks, keep_open))
        self._waker.wake()

    def stop(self) -> None:
        """Asks `run` to finish; callable from any thread and from a signal handler."""
        self._stop_asked = True
        self._waker.wake()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop_asked

    @property
    def connections(self) -> int:
        """Open connections, handshakes included."""
        return len(self._peers)

    @property
    def buffered_bytes(self) -> int:
        """Room that request bodies have."""
        return self._bodies.used

    @property
    def requests(self) -> int:
        """Requests submitted and not answered yet, those of clients that left included."""
        return len(self._working)

    # --- life ----------------------------------------------------------------------------------

    def listen(self, address: tuple[str, int]) -> tuple[str, int]:
        """Opens the listening socket; gives the real address, as port 0 asks for a free one.

        Raises:
            ConfigError: the address can't be used.
        """
        return self._listener.open(address)

    def run(self) -> None:
        """Serves until `stop` is called and the running requests are answered."""
        try:
            while not self._finished():
                self._turn()
        finally:
            self.close()

    def close(self) -> None:
        """Closes every socket; `run` does it at its end."""
        for peer in list(self._peers):
            self._drop(peer)
        self._listener.close()
        self._selector.close()
        self._waker.close()

    def _finished(self) -> bool:
        deadline = self._stop_deadline
        return deadline is not None and (not self._peers or self._clock() >= deadline)

    def _begin_stop(self, now: float) -> None:
        self._stop_deadline = now + self._limits.shutdown_timeout_s
        self._listener.close()
        for peer in list(self._peers):
            peer.connection.closing_soon = True
            if peer.connection.phase not in (Phase.WORKING, Phase.ANSWER):
                peer.connection.close(now)
            self._settle(peer, now)

    # --- one turn ------------------------------------------------------------------------------

    def _turn(self) -> None:
        events = self._selector.select(self._patience_s())
        now = self._clock()
        ready: dict[Peer, int] = dict.fromkeys(self._again, EVENT_READ)
        self._again.clear()
        for key, mask in events:
            if self._waker.woke(key.fileobj):
                continue
            if key.data is None:
                self._accept(now)
            else:
                ready[key.data] = mask
        self._take_answers(now)
        self._serve_ready(ready, now)
        self._do_background_step(now)
        # While nothing was given back there is no more room than when they asked.
        if self._bodies.used < self._room_taken or now >= self._next_sweep:
            for peer in list(self._starved):
                peer.connection.advance(now)
                self._settle(peer, now)
        self._room_taken = self._bodies.used
        self._listener.resume(now)
        if self._stop_asked and self._stop_deadline is None:
            self._begin_stop(now)
        if now >= self._next_sweep:
            self._sweep(now)

    def _serve_ready(self, ready: dict[Peer, int], now: float) -> None:
        """Serves who is ready by clients' standing, for a slice of time; the rest stays ready."""
        for peer in sorted(ready, key=lambda peer: self._accounts.standing(peer.connection.client)):
            if self._clock() - now >= _SLICE_S:
                if peer.connection.has_pipelined:
                    self._again[peer] = None
            elif not ready[peer] & EVENT_READ:
                self._settle(peer, now)
            elif peer.connection.is_background:
                self._postpone(peer, now)
            else:
                self._serve(peer, now)

    def _postpone(self, peer: Peer, now: float) -> None:
        """Lets a peer wait for its turn to be read; the selector leaves it alone until then."""
        if peer not in self._peers:
            return
        peer.has_spoken = True
        others_wait = self._accounts.others_requests(peer.connection.client) > 0
        rest_s = REFUSED_REST_S if peer.connection.refusals and others_wait else 0.0
        self._background[peer] = now + rest_s
        self._watch(peer)

    def _do_background_step(self, now: float) -> None:
        peer = min(
            (
                peer
                for peer, earliest in self._background.items()
                if max(earliest, self._rest_ends[_rest_of(peer)]) <= now
            ),
            key=lambda peer: (
                self._accounts.standing(peer.connection.client),
                peer.connection.phase is Phase.HANDSHAKE,
            ),
            default=None,
        )
        if peer is None:
            return
        del self._background[peer]
        client, started = peer.connection.client, self._clock()
        rest = _rest_of(peer)
        others_wait = self._accounts.others_requests(client) > 0
        self._serve(peer, now, STEP_BYTES if others_wait else READ_BYTES)
        if others_wait:
            ended = self._clock()
            self._rest_ends[rest] = ended + rest * (ended - started)

    def _patience_s(self) -> float | None:
        """How long the selector may wait: for ever when there is no deadline to look after."""
        if self._again:
            return 0.0
        now = self._clock()
        waits = [
            max(0.0, earliest - now, self._rest_ends[_rest_of(peer)] - now)
            for peer, earliest in self._background.items()
        ]
        waits += [SWEEP_S] * bool(self._peers or self._stop_asked)
        pause_s = self._listener.patience_s(now)
        return min(waits if pause_s is None else [*waits, pause_s], default=None)

    def _take_answers(self, now: float) -> None:
        while self._delivered:
            request, chunks, keep_open = self._delivered.popleft()
            request.release(self._bodies)
            peer = self._working.pop(request)
            if request.abandoned:
                continue
            peer.answer_client, peer.answer_bytes = request.client, sum(map(len, chunks))
            self._answers.add(peer.answer_client, peer.answer_bytes)
            peer.connection.answer(chunks, keep_open, now)
            self._settle(peer, now)
            self._drop_untaken(peer)

    def _drop_untaken(self, newest: Peer) -> None:
        """Ends answers that nobody takes, the oldest of who has most, while they are too much."""
        while (client := self._answers.overdrawn()) is not None:
            sending = (
                peer
                for peer in self._peers
                if peer.answer_bytes and peer.answer_client == client and peer is not newest
            )
            oldest = min(sending, key=lambda peer: peer.connection.deadline, default=None)
            if oldest is None:
                return
            self._drop(oldest)

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP_S
        for peer in list(self._peers):
            if peer.connection.deadline <= now:
                peer.connection.expire(now)
                self._settle(peer, now)

    # --- accepting -----------------------------------------------------------------------------

    def _accept(self, now: float) -> None:
        started = self._clock()
        for client, address in self._listener.accept(now):
            if self._has_place(address[0], now):
                self._welcome(client, address, now)
            else:
                self.counters.unplaced += 1
                client.close()
        if self._working:
            ended = self._clock()
            self._listener.pause(ended + REST * (ended - started))

    def _welcome(self, client: socket.socket, address: tuple[str, int], now: float) -> None:
        try:
            channel = self._new_channel()
        except Exception as error:  # whatever the library lacks, memory for one, the loop goes on
            logs.write(logging.ERROR, Event.CLIENT_NOT_SERVED, error=error)
            client.close()
            return
        client.setblocking(False)
        with suppress(OSError):  # the client may be gone already; reading will tell
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(
            channel,
            address,
            self._bodies,
            self._limits,
            gate=self._gate,
            server_name=self._server_name,
            now=now,
            counters=self.counters,
        )
        self.counters.accepted += 1
        peer = Peer(client, connection)
        self._peers.add(peer)
        self._watch(peer)

    def _has_place(self, host: str, now: float) -> bool:
        """Makes a place for a new connection if it may have one."""
        address = address_client(host)
        if self._peers.is_at_limit(address):
            return False
        for surplus in (self._peers.surplus_handshake(), self._peers.surplus(address)):
            if surplus is None:
                continue
            if surplus.connection.phase is Phase.IDLE:
                surplus.connection.close(now)
                self._settle(surplus, now)
            self._drop(surplus)
        return len(self._peers) < self._limits.max_connections

    # --- one connection ------------------------------------------------------------------------

    def _serve(self, peer: Peer, now: float, most_bytes: int = READ_BYTES) -> None:
        """Takes what a client has sent as far as it leads, and charges the time that it took."""
        if peer not in self._peers:
            return
        connection, began_ns = peer.connection, time.thread_time_ns()
        if connection.has_pipelined:
            self._guarded(peer, lambda: connection.advance(now))
        elif connection.wants_read:
            self._receive(peer, now, most_bytes)
        self._settle(peer, now)
        self._accounts.charge(connection.client, time.thread_time_ns() - began_ns)

    def _receive(self, peer: Peer, now: float, most_bytes: int) -> None:
        try:
            ciphertext = peer.socket.recv(most_bytes)
        except BlockingIOError:
            return
        except OSError:
            ciphertext = b""
        self._guarded(peer, lambda: peer.connection.receive(ciphertext, now))

    def _settle(self, peer: Peer, now: float) -> None:
        """Brings socket, selector and counters in line with the connection's state."""
        if peer not in self._peers:
            return
        self._guarded(peer, lambda: self._progress(peer, now))
        connection = peer.connection
        if peer.answer_bytes and connection.phase is not Phase.ANSWER:
            self._forget_answer(peer)
        if connection.phase is Phase.CLOSED or (
            connection.phase is Phase.LINGER and self._stop_asked
        ):
            self._drop(peer)
            return
        if connection.phase is Phase.LINGER and not peer.shut:
            peer.shut = True
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
        if connection.starved:
            self._starved[peer] = None
        else:
            self._starved.pop(peer, None)
        if connection.has_pipelined and peer not in self._background:
            self._again[peer] = None
        self._watch(peer)

    def _guarded(self, peer: Peer, step: Callable[[], None]) -> None:
        """Runs a step; whatever fails in it ends this one connection and nothing else."""
        try:
            step()
        except OSError:
            peer.connection.drop()
        except Exception as error:
            logs.write(logging.ERROR, Event.CONNECTION_DROPPED, error=error)
            peer.connection.drop()

    def _progress(self, peer: Peer, now: float) -> None:
        """Sends what there is and passes a request on that is complete."""
        peer.flush(now)
        request = peer.connection.take_request()
        if request is None:
            return
        self._working[request] = peer
        # Who doesn't take its answers gets no more of them made.
        takes = not self._answers.holds(request.client) or self._answers.has_room(request.client, 0)
        if takes and self._submit(request):
            return
        del self._working[request]
        request.release(self._bodies)
        peer.connection.answer_busy(request, now)
        peer.flush(now)

    def _watch(self, peer: Peer) -> None:
        """Tells the selector what to wait for."""
        is_read = peer.connection.wants_read and peer not in self._background
        mask = EVENT_READ if is_read else 0
        mask |= EVENT_WRITE if peer.unsent else 0
        if mask == peer.mask:
            return
        if not peer.mask:
            self._selector.register(peer.socket, mask, peer)
        elif not mask:
            self._selector.unregister(peer.socket)
        else:
            self._selector.modify(peer.socket, mask, peer)
        peer.mask = mask

    def _forget_answer(self, peer: Peer) -> None:
        self._answers.give_back(peer.answer_client, peer.answer_bytes)
        peer.answer_bytes = 0

    def _drop(self, peer: Peer) -> None:
        """Closes a socket and forgets everything about it."""
        if peer not in self._peers:
            return
        peer.connection.drop()
        self._forget_answer(peer)
        self._peers.remove(peer)
        self._starved.pop(peer, None)
        self._again.pop(peer, None)
        self._background.pop(peer, None)
        if peer.mask:
            self._selector.unregister(peer.socket)
        peer.socket.close()


def _rest_of(peer: Peer) -> int:
    return BODY_REST if peer.connection.phase is Phase.BODY else REST
