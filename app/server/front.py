"""The event loop: one thread owns every socket and every TLS object.

Workers never touch a socket. They get complete requests and give complete
answers, so a silent, slow or vanished client costs memory within the limits and
never a worker. What gives way to requests is in `app.server.pacing`.
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
from app.server.pacing import HANDSHAKE_REST, Pacing, rest_end
from app.server.peers import Peer, Peers
from app.server.request import Request
from app.server.room import Room
from app.server.tls.channel import Channel
from app.server.transport import READ_BYTES, STEP_BYTES, TransportLimits
from app.server.waker import Waker

SWEEP_S: Final = 0.25
"""How often deadlines are looked at, hence how exactly they are kept."""

Submit = Callable[[Request], Request | None]
"""Passes a request to the workers without blocking. Gives the request for which there is no place,
this one or an earlier one; for every other `Front.deliver` has to follow, once."""

Clock = Callable[[], float]
"""A monotonic clock, in seconds."""


class Front:
    """Accepts, decrypts, dispatches, encrypts, closes.

    Args:
        new_channel: makes the TLS side of a new connection.
        submit: passes a request on.
        gate: lets requests in, asked from `run`'s thread.
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
        server_name: str,
        limits: TransportLimits,
        clock: Clock = time.monotonic,
    ) -> None:
        self._new_channel = new_channel
        self._submit = submit
        self._gate = gate
        self._server_name = server_name
        self._limits = limits
        self._clock = clock
        self._room = Room(limits.max_buffered_bytes, limits.max_body_bytes)
        self._selector = DefaultSelector()
        self._listener = Listener(self._selector)
        self._waker = Waker(self._selector)
        self._delivered: deque[tuple[Request, Sequence[bytes], bool]] = deque()
        self._peers = Peers(limits)
        self._working: dict[Request, Peer] = {}
        self._displaced: deque[Request] = deque()
        self._starved: dict[Peer, None] = {}
        self._pacing = Pacing(limits.max_connections)
        self._answer_bytes = 0
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
        """Room reserved for request bodies."""
        return self._room.used_bytes

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
        for key, mask in events:
            if self._waker.woke(key.fileobj):
                continue
            if key.data is None:
                self._accept(now)
            elif self._peers.is_shaking(key.data) or key.data.connection.is_bulky:
                self._let_wait(key.data, mask, now)
            else:
                self._serve(key.data, mask, now)
        self._take_answers(now)
        self._go_on_with_one(now)
        for peer in list(self._starved):
            peer.connection.resume(now)
            self._settle(peer, now)
        self._listener.resume(now)
        if self._stop_asked and self._stop_deadline is None:
            self._begin_stop(now)
        if now >= self._next_sweep:
            self._sweep(now)

    def _patience_s(self) -> float | None:
        """How long the selector may wait: for ever when there is no deadline to look after."""
        now = self._clock()
        sweep_s = SWEEP_S if self._peers or self._stop_asked else None
        waits = (self._pacing.patience_s(now), self._listener.patience_s(now), sweep_s)
        return min((each for each in waits if each is not None), default=None)

    def _take_answers(self, now: float) -> None:
        while self._displaced:
            peer = self._refuse(self._displaced.popleft(), now)
            self._settle(peer, now)
        while self._delivered:
            request, chunks, keep_open = self._delivered.popleft()
            request.release(self._room)
            peer = self._working.pop(request)
            if request.abandoned:
                continue
            peer.answer_bytes = sum(map(len, chunks))
            self._answer_bytes += peer.answer_bytes
            self._pacing.answered(peer, chunks)
            peer.connection.answer(chunks, keep_open, now)
            self._settle(peer, now)

    def _let_wait(self, peer: Peer, mask: int, now: float) -> None:
        """Lets a peer wait for its turn to read; the selector leaves it alone until then."""
        if not mask & EVENT_READ or not peer.connection.wants_read:
            self._settle(peer, now)
        elif self._pacing.add(peer):
            self._selector.unregister(peer.socket)
            peer.mask = 0

    def _go_on_with_one(self, now: float) -> None:
        peer = self._pacing.take(now, is_busy=bool(self._working))
        if peer is None:
            return
        started, tenant = self._clock(), peer.connection.tenant
        rest = HANDSHAKE_REST if tenant is None else self._pacing.body_rest(tenant)
        self._serve(peer, EVENT_READ, now, STEP_BYTES if rest else READ_BYTES)
        self._pacing.took(started, self._clock(), rest)

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
            self._listener.pause(rest_end(started, self._clock(), HANDSHAKE_REST))

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
            self._room,
            self._limits,
            gate=self._gate,
            server_name=self._server_name,
            now=now,
            counters=self.counters,
        )
        self.counters.accepted += 1
        peer = Peer(client, address[0], connection)
        self._peers.add(peer)
        self._watch(peer)

    def _has_place(self, host: str, now: float) -> bool:
        """Makes a place for a new connection if it may have one."""
        if self._peers.is_at_limit(host):
            return False
        silent = self._peers.surplus_handshake()
        if silent is not None:
            self._drop(silent)
        if not self._peers.is_full():
            return True
        idle = self._peers.longest_idle()
        if idle is None:
            return False
        idle.connection.close(now)
        self._settle(idle, now)
        self._drop(idle)
        return True

    # --- one connection ------------------------------------------------------------------------

    def _serve(self, peer: Peer, mask: int, now: float, most_bytes: int = READ_BYTES) -> None:
        """Reads from a socket that is ready; `_settle` does everything else."""
        if peer not in self._peers:
            return
        if mask & EVENT_READ and peer.connection.wants_read:
            try:
                ciphertext = peer.socket.recv(most_bytes)
            except BlockingIOError:
                self._watch(peer)  # a handshake that waited for its turn isn't watched
                return
            except OSError:
                ciphertext = b""
            self._guarded(peer, lambda: peer.connection.receive(ciphertext, now))
        self._settle(peer, now)

    def _settle(self, peer: Peer, now: float) -> None:
        """Brings socket, selector and counters in line with the connection's state."""
        if peer not in self._peers:
            return
        self._guarded(peer, lambda: self._progress(peer, now))
        connection = peer.connection
        if peer.answer_bytes and connection.phase is not Phase.ANSWER:
            self._answer_bytes -= peer.answer_bytes
            peer.answer_bytes = 0
        if connection.phase is Phase.CLOSED or (
            connection.phase is Phase.LINGER and self._stop_asked
        ):
            self._drop(peer)
            return
        if connection.phase is Phase.LINGER and not peer.shut:
            peer.shut = True
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
        if connection.is_established:
            self._peers.note_established(peer)
        if connection.starved:
            self._starved[peer] = None
        else:
            self._starved.pop(peer, None)
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
        """Sends what there is and passes on requests, pipelined ones in turn."""
        while True:
            peer.flush(now)
            request = peer.connection.take_request()
            if request is None:
                return
            self._dispatch(peer, request, now)

    def _dispatch(self, peer: Peer, request: Request, now: float) -> None:
        self._working[request] = peer
        self._pacing.asked(request.tenant)
        has_room = self._answer_bytes <= self._limits.max_buffered_bytes
        refused = self._submit(request) if has_room else request
        if refused is request:
            self._refuse(request, now)
        elif refused is not None:
            self._displaced.append(refused)
            self._waker.wake()

    def _refuse(self, request: Request, now: float) -> Peer:
        """Answers 503 to a request that no worker will get."""
        peer = self._working.pop(request)
        request.release(self._room)
        if not request.abandoned:
            peer.connection.answer_busy(request, now)
        return peer

    def _watch(self, peer: Peer) -> None:
        """Tells the selector what to wait for."""
        mask = EVENT_READ if peer.connection.wants_read else 0
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

    def _drop(self, peer: Peer) -> None:
        """Closes a socket and forgets everything about it."""
        if peer not in self._peers:
            return
        peer.connection.drop()
        self._answer_bytes -= peer.answer_bytes
        self._peers.remove(peer)
        self._starved.pop(peer, None)
        self._pacing.remove(peer, self._clock())
        if peer.mask:
            self._selector.unregister(peer.socket)
        peer.socket.close()
