"""The subcommands about clients that hurt others: tenants, attacks."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import Final

from tools.bench import attacks, tenants
from tools.bench.attackers import ATTACKS
from tools.bench.campaign import Case
from tools.commands.arguments import count
from tools.commands.benchmark.options import (
    SCRATCH,
    Commands,
    add_common,
    add_rounds,
    add_seconds,
    add_threads,
    finder,
    new_command,
)
from tools.commands.benchmark.suites import runs

NAMES: Final = tuple(each.name for each in ATTACKS)

_TENANTS: Final = """\
Measures what one tenant with one connection notices of another that keeps many
connections busy."""

_ATTACKS: Final = """\
Measures what one client notices while others attack, what attackers are
answered, and what is left of it in the appliance's memory."""


def add_all(commands: Commands) -> None:
    """Adds the subcommands."""
    _add_tenants(commands)
    _add_attacks(commands)


def _add_tenants(commands: Commands) -> None:
    command = new_command(commands, "tenants", "one tenant beside a busy one", _TENANTS)
    add_common(command, ("digits",))
    add_threads(command, (1,))
    add_rounds(command, 5)
    command.add_argument(
        "--connections",
        type=count,
        default=tenants.CONNECTIONS,
        metavar="N",
        help="of the busy tenant (%(default)s)",
    )
    add_seconds(command, 5.0)
    command.add_argument(
        "--pin",
        action="store_true",
        help="measure once more with clients on one core and the appliance on the others",
    )
    runs(command, "tenants", tenant_cases)


def _add_attacks(commands: Commands) -> None:
    command = new_command(commands, "attacks", "one client beside attackers", _ATTACKS)
    add_common(command, ("digits",))
    add_threads(command, (1,))
    add_rounds(command, 2)
    add_seconds(command, 3.0)
    command.add_argument(
        "--attacks",
        type=_chosen,
        default=list(NAMES),
        metavar="NAME,NAME",
        help="some of them only: " + ", ".join(NAMES),
    )
    runs(command, "attacks", attack_cases)


def _chosen(text: str) -> list[str]:
    """Reads names of attacks, with commas between them."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ArgumentTypeError(f"there is no attack {unknown[0]!r}; there are {', '.join(NAMES)}")
    return names


def tenant_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `tenants`."""
    kinds = (tenants.SHARED, tenants.PINNED) if options.pin else (tenants.SHARED,)
    found = []
    for threads in options.threads:
        settings = tenants.Settings(
            options.connections, options.seconds, options.rounds, threads, SCRATCH / "tenants"
        )
        for name in options.models:
            found += [tenants.case_of(name, finder(options), settings, kind) for kind in kinds]
    return found


def attack_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `attacks`."""
    found = []
    for threads in options.threads:
        settings = attacks.Settings(
            options.seconds, options.rounds, threads, SCRATCH / f"attacks-{threads}"
        )
        for name in options.models:
            found += attacks.cases_of(name, finder(options), settings, options.attacks)
    return found
