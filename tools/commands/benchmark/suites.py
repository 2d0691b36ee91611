"""The subcommands that measure models: modes, peers, partitions, operators, resources, load."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from app.errors import InputError
from tools.bench import load, modes, operators, peers, planner, resources, sweep
from tools.bench.campaign import Case
from tools.bench.client import Client, Endpoint, encoded
from tools.bench.results import Result, Row
from tools.bench.runner import SEED, request_for
from tools.commands.arguments import count, delay_us, positive, together, url
from tools.commands.benchmark.options import (
    SCRATCH,
    Commands,
    add_common,
    add_rounds,
    add_seconds,
    add_threads,
    finder,
    finish,
    measure,
    new_command,
    stamp,
)
from tools.serving_client import Trust
from tools.serving_client.trust import read_token
from tools.sizes import format_size, parse_size

_MODES = """\
Compares the ways of keeping a model, from request sent to answer read: whole in
memory, whole from encrypted disk, partitions naive and as deployed, and the
packed image in whatever runtime this machine has (named on every figure)."""

_PEERS = """\
Compares whole models in onnxruntime and tract with encrypted partitions."""

_PARTITIONS = """\
Measures latency, peak of memory and decrypted bytes of the same model in
different numbers of partitions and in different budgets."""

_OPERATORS = """\
Measures every operator alone in onnxruntime and tract, and writes those whose
ratio reaches --threshold to TIME-operators-MODEL.isolate."""

_PLANNER = """\
Plans models with the fewest partitions, and compares their number with two
bounds from below: weights by budget, and weights by what the budget leaves for
them."""

_RESOURCES = """\
Measures processor, resident memory and power of the packed appliance: start-up,
first request and steady state apart."""

_LOAD = """\
Puts closed-loop and open-loop clients on the packed appliance, or with --url on
one that runs."""


def add_all(commands: Commands) -> None:
    """Adds the subcommands."""
    _add_modes(commands)
    _add_peers(commands)
    _add_partitions(commands)
    _add_operators(commands)
    _add_planner(commands)
    _add_resources(commands)
    _add_load(commands)


def _add_modes(commands: Commands) -> None:
    command = new_command(commands, "modes", "ways of keeping a model, over TLS", _MODES)
    add_common(command)
    add_threads(command, (1,))
    add_rounds(command, 15)
    _add_budget(command)
    command.add_argument("--no-image", action="store_true", help="leave the packed image out")
    runs(command, "modes", mode_cases)


def _add_peers(commands: Commands) -> None:
    command = new_command(commands, "peers", "whole models in other engines, and ours", _PEERS)
    add_common(command)
    add_threads(command, (1, 2))
    add_rounds(command, 15)
    runs(command, "peers", peer_cases)


def _add_partitions(commands: Commands) -> None:
    command = new_command(commands, "partitions", "numbers of partitions, and budgets", _PARTITIONS)
    add_common(command)
    add_threads(command, (1,))
    add_rounds(command, 15)
    command.add_argument("--counts", nargs="*", type=count, default=list(sweep.COUNTS), metavar="N")
    command.add_argument(
        "--budgets", nargs="*", type=parse_size, default=list(sweep.BUDGETS), metavar="SIZE"
    )
    runs(command, "partitions", sweep_cases)


def _add_operators(commands: Commands) -> None:
    command = new_command(commands, "operators", "every operator alone, in two engines", _OPERATORS)
    add_common(command)
    add_rounds(command, 15)
    command.add_argument(
        "--threshold",
        type=positive,
        default=operators.THRESHOLD,
        metavar="RATIO",
        help="from which an operator is listed (%(default)s)",
    )
    runs(command, "operators", operator_cases)


def _add_planner(commands: Commands) -> None:
    command = new_command(commands, "planner", "fewest partitions against their bounds", _PLANNER)
    add_common(command)
    command.add_argument(
        "--budgets",
        nargs="+",
        type=parse_size,
        default=list(sweep.BUDGETS[:4]),
        metavar="SIZE",
        help="as 85MiB (16MiB 32MiB 64MiB 128MiB)",
    )
    runs(command, "planner", planner_cases)


def _add_resources(commands: Commands) -> None:
    command = new_command(
        commands, "resources", "processor, memory and power of the appliance", _RESOURCES
    )
    add_common(command)
    add_threads(command, (1,))
    _add_budget(command)
    add_seconds(command, 40.0, "the steady state")
    runs(command, "resources", resource_cases)


def _add_load(commands: Commands) -> None:
    command = new_command(commands, "load", "closed-loop and open-loop clients", _LOAD)
    add_common(command, ("digits",))
    add_threads(command, (1,))
    add_rounds(command, 3)
    command.add_argument(
        "--clients", nargs="+", type=count, default=list(load.CLIENTS), metavar="N"
    )
    command.add_argument(
        "--shares",
        nargs="*",
        type=positive,
        default=list(load.SHARES),
        metavar="SHARE",
        help="rates of the open loop, of the closed loop's best throughput (%(default)s)",
    )
    add_seconds(command, 3.0)
    _add_budget(command)
    command.add_argument(
        "--lock-step",
        type=together,
        default=1,
        metavar="N",
        help="partition for N requests in lock step, and let so many run together (%(default)s)",
    )
    command.add_argument(
        "--max-delay-us",
        type=delay_us,
        metavar="N",
        help="how long a request may be kept waiting for others (the image's default)",
    )
    command.add_argument(
        "--url", type=url, metavar="URL", help="a running appliance, as https://host:8443"
    )
    command.add_argument("--cacert", type=Path, metavar="FILE", help="its certificate, PEM")
    command.add_argument("--token-file", type=Path, metavar="FILE", help="holds its API token")
    runs(command, "load", load_cases)


def _add_budget(command: ArgumentParser) -> None:
    command.add_argument(
        "--budget",
        type=parse_size,
        metavar="SIZE",
        help="of the partitions, as 85MiB (a third of the model; where its activations need more, "
        "4 partitions in the least that they can run in)",
    )


def runs(command: ArgumentParser, name: str, cases: Callable[[Namespace], list[Case]]) -> None:
    """Lets a subcommand measure its cases, and write, draw and list what came of them."""

    def run(options: Namespace) -> int:
        when = stamp()
        made = cases(options)
        album = measure(options, name, settings_of(options), made, when)
        write_lists(album[0], options.output / f"{when}-{name}")
        return finish(options, [album], options.output / f"{when}-{name}.html")

    command.set_defaults(run=run)


def settings_of(options: Namespace) -> dict[str, str]:
    """Gives the options as a result file keeps them."""
    hidden = ("run", "quiet", "output", "zoo", "cacert", "token_file")
    return {
        name: _text(name, value)
        for name, value in sorted(vars(options).items())
        if name not in hidden and value is not None
    }


def _text(name: str, value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_text(name, each) for each in value)
    if name in ("budget", "budgets") and isinstance(value, int):
        return format_size(value)
    return str(value)


def write_lists(result: Result, path: Path) -> None:
    """Writes each model's list of operators to isolate beside a result of `operators`."""
    if result.subcommand != "operators":
        return
    threshold = float(result.settings["threshold"])
    for model in dict.fromkeys(row.labels["model"] for row in result.rows):
        target = path.with_name(f"{path.name}-{model}.isolate")
        operators.write_isolated(target, model, result.rows, threshold)


def mode_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `modes`."""
    settings = modes.Settings(
        options.budget, options.rounds, SCRATCH / "modes", packed=not options.no_image
    )
    return [
        modes.case_of(name, finder(options), threads, settings)
        for name in options.models
        for threads in options.threads
    ]


def peer_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `peers`."""
    return [
        peers.case_of(name, finder(options), threads, options.rounds, SCRATCH / "peers")
        for name in options.models
        for threads in options.threads
    ]


def sweep_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `partitions`."""
    return [
        sweep.case_of(
            name,
            finder(options),
            sweep.Settings(
                options.counts, options.budgets, threads, options.rounds, SCRATCH / "partitions"
            ),
        )
        for name in options.models
        for threads in options.threads
    ]


def operator_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `operators`."""
    return [operators.case_of(name, finder(options), options.rounds) for name in options.models]


def planner_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `planner`."""
    return [planner.case_of(name, finder(options), options.budgets) for name in options.models]


def resource_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `resources`."""
    return [
        resources.case_of(
            name,
            finder(options),
            resources.Settings(options.budget, threads, options.seconds, SCRATCH / "resources"),
        )
        for name in options.models
        for threads in options.threads
    ]


def load_cases(options: Namespace) -> list[Case]:
    """Gives the cases of `load`."""
    settings = load.Settings(
        options.clients,
        options.shares,
        options.seconds,
        options.rounds,
        options.budget,
        options.lock_step,
        options.max_delay_us,
    )
    if options.url:
        if options.budget or options.lock_step > 1 or options.max_delay_us is not None:
            raise InputError(
                "--url: what runs is partitioned and built already; leave out --budget, "
                "--lock-step and --max-delay-us"
            )
        return _running_cases(options, settings)
    return [
        load.case_of(name, finder(options), threads, settings, SCRATCH / "load")
        for name in options.models
        for threads in options.threads
    ]


def _running_cases(options: Namespace, settings: load.Settings) -> list[Case]:
    token = read_token(options.token_file) if options.token_file else None
    endpoint = Endpoint(options.url, Trust(ca_file=options.cacert, token=token))

    def case(name: str) -> Case:
        def measure_it(step: Callable[[], None]) -> list[Row]:
            with Client(endpoint) as client:
                specs = client.inputs(name)
            service = load.Service(endpoint, name, encoded(request_for(specs, {}, SEED)))
            return load.measure(name, {}, service, settings, step)

        return Case(f"{name}, load", load.steps(settings), measure_it)

    return [case(name) for name in options.models]
