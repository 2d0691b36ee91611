"""tools/check_accuracy.py: proves that partitions compute what the whole model computes."""

from __future__ import annotations

import json
import platform
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

from app.engine import VERSION
from app.errors import ApplianceError, InputError
from tools.accuracy.data.example import DataSet
from tools.accuracy.data.opening import open_data
from tools.accuracy.evaluation import Criteria, Evaluation, evaluate
from tools.accuracy.given import ATOL, RTOL, Tolerance
from tools.accuracy.ladder import climb, rung_names
from tools.accuracy.page import build_page
from tools.accuracy.remote import Remote
from tools.accuracy.results import ModelResult, to_json
from tools.accuracy.strays import stray_folders
from tools.accuracy.terminal import print_result
from tools.command_line import DONE, INTERRUPTED, NO, lacked_memory, parser, progress, run
from tools.commands.arguments import add_limits, url
from tools.confinement.child import Confinement
from tools.console import say, terminal
from tools.model_folder import ModelFolder, find_folders, open_folder
from tools.serving_client import Trust
from tools.serving_client.trust import read_token

DESCRIPTION = """\
Proves that the partitions of a model compute what the whole model computes.

Each rung changes one thing, so the first one that fails says what is wrong:
  files      every file is the one the plan was made with
  cut        partitions, optimisations off: bit-exact with the whole model
  format     the same from an encrypted bundle: bit-exact
  deployed   the bundle as it is shipped, optimised: within a tolerance
  tls        with --url: a running appliance, bit-exact with deployed
Compared are labelled pictures (samples/), seeded random and structured inputs.
A rung that fails names partition, operator, value and number.

With --data, the partitions as deployed are also evaluated on a data set.

Exit status: 0 when every rung of every model holds and the data bear it out,
1 when not; 130 after Ctrl-C, with what was found until then."""

EPILOG = """\
data sets (--data):
  FOLDER of folders   pictures, one folder per class named by label or number
  FILE.npz            one array per input, or "pictures" as uint8, and "labels"
  test_data_set_N     ONNX test data: input_0.pb and output_0.pb in each

examples:
  tools/check_accuracy.py partitions/
  tools/check_accuracy.py partitions/digits --url https://localhost:8443 \\
      --cacert certificate.pem
  tools/check_accuracy.py partitions/digits --report build/digits.html \\
      --data partitions/digits/samples/test_set.npz
  tools/check_accuracy.py partitions/net-int8 --data pictures/ \\
      --reference net.onnx --max-drop 0.5%"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status."""
    found = _parser()
    options = found.parse_args(argv)
    if (options.url is None) != (options.cacert is None):
        found.error("--url and --cacert belong together")
    if options.token_file is not None and options.url is None:
        found.error("--token-file needs --url")
    if options.data is None and (options.reference is not None or options.max_drop is not None):
        found.error("--reference and --max-drop need --data")
    given = (options.data, options.cacert, options.token_file)
    needs = Confinement(
        models=[path for path in (options.folder, options.reference) if path is not None],
        reads=[path for path in given if path is not None],
        files=[options.report] if options.report else [],
        network=options.url is not None,
        seconds=options.time_limit,
        memory_bytes=options.memory_limit,
    )
    return run(lambda: _check(options), needs)


def _parser() -> ArgumentParser:
    found = parser("tools/check_accuracy.py", DESCRIPTION, EPILOG)
    found.add_argument(
        "folder", type=Path, help="a folder of model folders such as partitions/, or one of them"
    )
    found.add_argument("--model", metavar="NAME", help="only this model of the folder")
    _add_remote(found)
    _add_data(found)
    found.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page with tables and figures"
    )
    found.add_argument("--json", action="store_true", help="print JSON instead of tables")
    found.add_argument("--quiet", action="store_true", help="print nothing but failures")
    add_limits(found)
    return found


def _add_remote(found: ArgumentParser) -> None:
    group = found.add_argument_group("a running appliance")
    group.add_argument("--url", type=url, metavar="https://HOST:PORT", help="where it answers")
    group.add_argument(
        "--cacert",
        type=Path,
        metavar="FILE",
        help="PEM certificate that it is verified against: the one it printed when it started",
    )
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds an API token of the appliance's"
    )


def _add_data(found: ArgumentParser) -> None:
    group = found.add_argument_group("a data set")
    group.add_argument("--data", type=Path, metavar="FOLDER_OR_NPZ", help="evaluate on it")
    group.add_argument(
        "--reference",
        type=Path,
        metavar="OTHER.onnx",
        help="compare with this model instead of the folder's own, as with the original of a "
        "quantised one",
    )
    group.add_argument(
        "--max-drop",
        type=_percentage,
        metavar="P%",
        help="fail when top-1 drops by more points than this, as 0.5%%; the observed drop "
        "decides, its interval is shown",
    )
    group.add_argument(
        "--rtol",
        type=_tolerance,
        default=RTOL,
        metavar="R",
        help="for given outputs: relative tolerance (%(default)g)",
    )
    group.add_argument(
        "--atol",
        type=_tolerance,
        default=ATOL,
        metavar="A",
        help="for given outputs: absolute tolerance, added to it (%(default)g)",
    )


def _percentage(text: str) -> float:
    value = _number(text.removesuffix("%"))
    if not text.endswith("%") or value is None or not 0 <= value <= 100:
        raise ArgumentTypeError(f"expected a percentage from 0% to 100%, as 0.5%, got {text!r}")
    return value / 100


def _tolerance(text: str) -> float:
    value = _number(text)
    if value is None or value < 0:
        raise ArgumentTypeError(f"expected a number from 0, got {text!r}")
    return value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _check(options: Namespace) -> int:
    paths = _chosen(options)
    notes = stray_folders(options.folder, find_folders(options.folder))
    remote = _remote(options) if options.url else None
    with closing(remote) if remote else nullcontext():
        results, stopped = _check_all(paths, options, remote)
    _show(results, notes, options, stopped=stopped)
    if stopped:
        say("stopped", error=True)
        return INTERRUPTED
    return DONE if all(result.passed for result in results) else NO


def _remote(options: Namespace) -> Remote:
    token = read_token(options.token_file) if options.token_file else None
    return Remote(options.url, Trust(ca_file=options.cacert, token=token))


def _check_all(
    paths: Sequence[Path], options: Namespace, remote: Remote | None
) -> tuple[list[ModelResult], bool]:
    """Gives what was found, and whether Ctrl-C ended it early."""
    results: list[ModelResult] = []
    for path in paths:
        try:
            results.append(_check_one(path, options, remote))
        except KeyboardInterrupt:
            return results, True
        evaluation = results[-1].evaluation
        if evaluation is not None and not evaluation.complete:
            return results, True
    return results, False


def _chosen(options: Namespace) -> list[Path]:
    paths = find_folders(options.folder)
    names = ", ".join(path.name for path in paths)
    if options.model:
        paths = [path for path in paths if path.name == options.model]
        if not paths:
            raise InputError(f"no model {options.model!r} there, only {names}")
    if options.data and len(paths) > 1:
        raise InputError(f"--data is for one model; choose one with --model: {names}")
    return paths


def _check_one(path: Path, options: Namespace, remote: Remote | None) -> ModelResult:
    """One broken model doesn't keep the others from being checked."""
    result = ModelResult(path.name)
    try:
        folder = open_folder(path)
        result = replace(result, labels=folder.purpose.labels)
        data = open_data(options.data, folder) if options.data else None
        names = rung_names(remote)
        with progress(f"{path.name}: ladder", len(names), quiet=options.quiet) as step:
            result = replace(result, report=climb(folder, step, remote))
        if data is not None:
            result = replace(result, evaluation=_evaluate(folder, data, options))
    except ApplianceError as error:
        if lacked_memory(error):
            raise MemoryError from error
        return replace(result, error=str(error))
    return result


def _evaluate(folder: ModelFolder, data: DataSet, options: Namespace) -> Evaluation:
    criteria = Criteria(options.max_drop, Tolerance(options.rtol, options.atol))
    reference = options.reference or folder.model_path
    with progress(f"{folder.path.name}: data", data.count, quiet=options.quiet) as step:
        return evaluate(folder, options.data, data, reference, criteria=criteria, step=step)


def _show(
    results: Sequence[ModelResult], notes: Sequence[str], options: Namespace, *, stopped: bool
) -> None:
    if options.json:
        say(json.dumps(to_json(results, notes, stopped=stopped), indent=1))
    elif not options.quiet:
        for result in results:
            print_result(result, terminal())
    if not options.quiet:
        _print_notes(results, notes)
    if not options.json:
        _print_failures(results)
    if options.report:
        build_page(results, notes, _made_on(), stopped=stopped).write(options.report)


def _print_notes(results: Sequence[ModelResult], notes: Sequence[str]) -> None:
    for note in notes:
        say(f"note: {note}", error=True)
    for result in results:
        report, evaluation = result.report, result.evaluation
        own = [*(report.notes if report else ()), *(evaluation.remarks if evaluation else ())]
        own += [
            f"{rung.name}: {rung.note}" for rung in (report.rungs if report else ()) if rung.note
        ]
        for note in own:
            say(f"note: {result.name}: {note}", error=True)


def _print_failures(results: Sequence[ModelResult]) -> None:
    for result in results:
        if result.error:
            say(f"{result.name}: FAILED: {result.error}", error=True)
        for rung in result.report.rungs if result.report else ():
            if rung.passed is False:
                say(f"{result.name}: FAILED at rung {rung.name}: {rung.problem}", error=True)
        for problem in result.evaluation.problems if result.evaluation else ():
            say(f"{result.name}: FAILED on the data: {problem}", error=True)


def _made_on() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Made on {now} with onnxruntime {VERSION} on {platform.machine()}."
