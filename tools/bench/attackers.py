"""The attacks: who does what with which bytes, from how many addresses."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from app.limits import MIN_BODY_BYTES_PER_S
from tools.bench import acts, hostile
from tools.bench.acts import CLOSED, LEFT, REFUSED, SILENT, Act, Hold, Line
from tools.bench.client import Endpoint
from tools.bench.hostile import Target
from tools.bench.rivals import together
from tools.bench.sites import Site

ALWAYS_RIGHT: Final = frozenset({"429", "503", REFUSED})
"""Whatever is attacked, as attackers may be more than the appliance serves at a time."""

PATIENCE_S: Final = 2.0
_LONG_PATIENCE_S: Final = 30.0
_SLOW_BYTES_PER_S: Final = 2 * MIN_BODY_BYTES_PER_S
"""Quick enough that an appliance doesn't drop the body for it."""

_MANY: Final = 200
_SOME: Final = 16
_FEW: Final = 2


@dataclass(frozen=True, slots=True)
class Attack:
    """A way to be hostile.

    Attributes:
        name: short, for figures.
        act: what each attacker does.
        connections: attackers at a time.
        messages: makes the bytes that attackers send in turn.
        right: what a right server answers, beside `ALWAYS_RIGHT`.
        addresses: they come from so many, not from the quiet client's.
        patience_s: how long one waits for an answer.
        site: what stands in the image beside the quiet client's model.
        sends_pictures: the quiet client sends pictures, which are bodies of several pieces and
            have to be decoded, not tensors.
    """

    name: str
    act: Act
    connections: int
    messages: Callable[[Target], Sequence[bytes]]
    right: frozenset[str]
    addresses: int = 1
    patience_s: float = PATIENCE_S
    site: Site = Site.PLAIN
    sends_pictures: bool = False


def _asks(name: str, messages: Callable[[Target], Sequence[bytes]], *right: str) -> Attack:
    return Attack(name, acts.ask, _SOME, messages, frozenset(right))


def _whole(target: Target) -> list[bytes]:
    return [target.post(target.json())]


_REFUSED_BODY: Final = frozenset({"400", "405", "408", "411", "413", "415", CLOSED})

ATTACKS: Final = (
    Attack("unfinished handshakes", acts.stall, _MANY, _whole, frozenset({CLOSED})),
    Attack("a byte per second", acts.drip, _MANY, _whole, frozenset({"408", CLOSED})),
    Attack("vanishing clients", acts.leave, _SOME, hostile.cut, frozenset({LEFT})),
    _asks("wrong lengths", hostile.wrong_lengths, "400", "200", SILENT),
    _asks("smuggled headers", hostile.smuggled, "400", "411"),
    _asks("1 GB bodies", hostile.huge_bodies, "413"),
    _asks("bombs", hostile.bombs, "413"),
    _asks("deep JSON", hostile.nested, "400", "413"),
    _asks("ids of 1 MB", hostile.long_ids, "400", "413"),
    _asks("odd numbers", hostile.odd_numbers, "200", "400"),
    _asks("overflowing shapes", hostile.overflowing_shapes, "400", "413"),
    Attack(
        "slow bodies on open paths",
        Hold(_SLOW_BYTES_PER_S),
        connections=3,
        messages=hostile.bodies_on_open_paths,
        right=_REFUSED_BODY,
        patience_s=_LONG_PATIENCE_S,
        addresses=3,
        sends_pictures=True,
    ),
    Attack(
        "slow bodies of tenants",
        Hold(_SLOW_BYTES_PER_S),
        connections=12,
        messages=hostile.bodies_of_tenants,
        right=_REFUSED_BODY,
        patience_s=_LONG_PATIENCE_S,
        addresses=4,
        sends_pictures=True,
    ),
    Attack(
        "bodies that wait for room",
        Hold(_SLOW_BYTES_PER_S),
        connections=303,
        messages=hostile.waiting_bodies,
        right=_REFUSED_BODY,
        patience_s=_LONG_PATIENCE_S,
        addresses=2,
    ),
    Attack(
        "all connections held",
        Hold(bytes_per_s=0),
        connections=512,
        messages=hostile.bodies_to_come,
        right=_REFUSED_BODY,
        addresses=4,
    ),
    Attack("ever new addresses", acts.churn, 4, _whole, frozenset({LEFT})),
    Attack("pipelined 401s", acts.pipeline, _FEW, hostile.refusals, frozenset({"401", CLOSED})),
    Attack("pipelined 403s", acts.pipeline, _FEW, hostile.forbidden, frozenset({"403", CLOSED})),
    Attack("health requests", acts.ask, 100, hostile.health, frozenset({"200"}), addresses=100),
    Attack(
        "JPEG of many scans",
        acts.ask,
        connections=3,
        messages=hostile.many_scans,
        right=frozenset({"200", "400", "413"}),
        patience_s=_LONG_PATIENCE_S,
        sends_pictures=True,
    ),
    Attack(
        "gzip of large JSON",
        acts.ask,
        connections=_FEW,
        messages=hostile.json_bombs,
        right=frozenset({"400", "413"}),
        patience_s=_LONG_PATIENCE_S,
    ),
    Attack(
        "large JSON answers",
        acts.ask,
        connections=1,
        messages=hostile.large_json_answers,
        right=frozenset({"200", "400", "413"}),
        patience_s=_LONG_PATIENCE_S,
        site=Site.WIDE,
    ),
    Attack(
        "untaken answers",
        acts.sip,
        connections=4,
        messages=hostile.large_answers,
        right=frozenset({"200", CLOSED}),
        patience_s=_LONG_PATIENCE_S,
        site=Site.WIDE,
    ),
    Attack(
        "RSA certificates",
        acts.present,
        connections=_FEW,
        messages=hostile.health,
        right=frozenset({"200", CLOSED}),
        patience_s=_LONG_PATIENCE_S,
    ),
    Attack(
        "models in turns",
        acts.ask,
        connections=1,
        messages=hostile.in_turns,
        right=frozenset({"200"}),
        patience_s=_LONG_PATIENCE_S,
        site=Site.SCARCE,
    ),
)


def source_of(place: int, addresses: int) -> str:
    """Gives the address that an attacker comes from."""
    return f"127.0.0.{2 + place % addresses}"


def attack(
    ready: Callable[[], object],
    stop: threading.Event,
    number: int,
    endpoint: Endpoint,
    target: Target,
) -> Counter[str]:
    """Attacks until the stop; gives what was answered, by status or what came instead.

    Args:
        ready: called when every attacker has been there once.
        stop: ends it.
        number: place in `ATTACKS`.
        endpoint: the server.
        target: whom the bytes are for.
    """
    chosen = ATTACKS[number]
    messages = chosen.messages(target)
    context = endpoint.trust.context()
    lines = [
        Line(
            endpoint,
            context,
            stop,
            Counter(),
            place,
            source_of(place, chosen.addresses),
            chosen.patience_s,
        )
        for place in range(chosen.connections)
    ]
    together(
        ready,
        stop,
        [chosen.act(line, islice(cycle(messages), line.place, None)) for line in lines],
    )
    return sum((line.seen for line in lines), Counter[str]())
