"""tools/benchmark.py all: the standard set, on one page."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any, Final

from tools.bench import load, sweep, tenants
from tools.bench.campaign import Case
from tools.bench.subjects import names
from tools.commands.benchmark.hostile import NAMES, attack_cases, tenant_cases
from tools.commands.benchmark.options import (
    SMALL,
    Album,
    Commands,
    add_common,
    finish,
    measure,
    new_command,
    stamp,
)
from tools.commands.benchmark.suites import (
    load_cases,
    mode_cases,
    operator_cases,
    peer_cases,
    resource_cases,
    settings_of,
    sweep_cases,
    write_lists,
)

_DESCRIPTION = """\
Runs every subcommand on small models (some minutes), or with --full on the
whole zoo (hours), and puts everything on one page: TIME-all.html."""

_CASES: Final[Mapping[str, Callable[[Namespace], list[Case]]]] = {
    "modes": mode_cases,
    "peers": peer_cases,
    "partitions": sweep_cases,
    "operators": operator_cases,
    "resources": resource_cases,
    "load": load_cases,
    "tenants": tenant_cases,
    "attacks": attack_cases,
}

_SMALL: Final[Mapping[str, Mapping[str, Any]]] = {
    "modes": {"threads": [1], "rounds": 15, "budget": None, "no_image": False},
    "peers": {"threads": [1, 2], "rounds": 15},
    "partitions": {
        "models": ["squeezenet-1.1", "mobilenet-v2"],
        "threads": [1],
        "rounds": 15,
        "counts": list(sweep.COUNTS),
        "budgets": list(sweep.BUDGETS),
    },
    "operators": {"models": ["squeezenet-1.1", "mobilenet-v2"], "rounds": 15, "threshold": 12.0},
    "resources": {"models": ["mobilenet-v2"], "threads": [1], "budget": None, "seconds": 21.0},
    "load": {
        "models": ["digits"],
        "threads": [1],
        "rounds": 2,
        "clients": list(load.CLIENTS),
        "shares": list(load.SHARES),
        "seconds": 2.0,
        "budget": None,
        "lock_step": 1,
        "max_delay_us": None,
        "url": None,
    },
    "tenants": {
        "models": ["digits"],
        "threads": [1],
        "rounds": 3,
        "seconds": 2.0,
        "connections": tenants.CONNECTIONS,
        "pin": False,
    },
    "attacks": {
        "models": ["digits"],
        "threads": [1],
        "rounds": 2,
        "seconds": 1.0,
        "attacks": list(NAMES),
    },
}
"""Options of each subcommand; the models are the command's where none are here."""

_FULL: Final[Mapping[str, Mapping[str, Any]]] = {
    "modes": {"threads": [1, 2]},
    "resources": {"models": ["digits", "resnet-50", "vgg-19", "bert-base"], "seconds": 60.0},
    "load": {"models": ["digits", "mobilenet-v2", "resnet-50"], "rounds": 3, "seconds": 5.0},
    "tenants": {"rounds": 5, "seconds": 5.0, "pin": True},
    "attacks": {"rounds": 3, "seconds": 5.0},
    "partitions": {"models": ["mobilenet-v2", "resnet-50", "densenet-121", "vgg-19", "bert-base"]},
    "operators": {"models": ["mobilenet-v2", "resnet-50", "densenet-121", "alexnet", "vgg-19"]},
}
"""What --full changes."""


def add(commands: Commands) -> None:
    """Adds the subcommand."""
    command = new_command(commands, "all", "the standard set, on one page", _DESCRIPTION)
    add_common(command)
    command.add_argument("--full", action="store_true", help="the whole zoo; takes hours")
    command.add_argument(
        "--only",
        nargs="+",
        choices=list(_CASES),
        default=list(_CASES),
        metavar="COMMAND",
        help="a part of the set (%(default)s)",
    )
    command.set_defaults(run=_all)


def _all(options: Namespace) -> int:
    when = stamp()
    albums: list[Album] = []
    for name in options.only:
        chosen = _options(options, name)
        album = measure(options, name, settings_of(chosen), _CASES[name](chosen), when)
        write_lists(album[0], options.output / f"{when}-{name}")
        albums.append(album)
        if album[0].partial:
            break
    return finish(options, albums, options.output / f"{when}-all.html")


def _options(options: Namespace, name: str) -> Namespace:
    """Gives a subcommand's options; models that were named are measured in all of them."""
    models = names() if options.full else list(SMALL)
    found: dict[str, Any] = {"models": models, **_SMALL[name]}
    if options.full:
        found |= _FULL.get(name, {})
    if options.models != list(SMALL):
        found["models"] = options.models
    return Namespace(zoo=options.zoo, quiet=options.quiet, output=options.output, **found)
