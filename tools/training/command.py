"""`tools/train_digits.py`: trains, tests and writes the sample model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from app.engine import EngineError, WholeModel
from tools.command_line import INTERRUPTED
from tools.console import terminal
from tools.errors import ModelError
from tools.training import digits
from tools.training.folder import Facts, write_folder, write_test_set
from tools.training.libraries import MissingLibraryError, require_libraries

if TYPE_CHECKING:
    from tools.training.train import Score, Training

ROOT: Final = Path(__file__).resolve().parents[2]
DEFAULT_OUTPUT: Final = ROOT / "partitions" / "digits"
DEFAULT_SEED: Final = 2024
DEFAULT_EPOCHS: Final = 40
MINIMUM_ACCURACY: Final = 0.98
SAMPLES_PER_CLASS: Final = 2

DESCRIPTION: Final = f"""\
Trains the sample model: a residual convolutional network for the handwritten digits that ship
inside scikit-learn. Takes minutes on two CPU cores and needs no network connection. Writes
model.onnx, model.json and samples/ if the network names at least {100 * MINIMUM_ACCURACY:.0f} of
100 pictures of the test part rightly; otherwise it writes nothing and exits with status 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: the arguments after the command's name; those of the process if None.

    Returns:
        0 written, 1 the model isn't good enough, 3 a library is missing or the folder can't be
        written, 130 interrupted. Wrong arguments leave with status 2.
    """
    arguments = _parser().parse_args(argv)
    console = terminal(stderr=True, highlight=False, soft_wrap=True)
    try:
        require_libraries()
        _run(arguments, console)
    except ModelError as error:
        console.print(f"error: {error}; nothing was written")
        return 1
    except MissingLibraryError as error:
        console.print(f"error: {error}")
        return 3
    except OSError as error:
        console.print(f"error: can't write {arguments.output}: {error}")
        return 3
    except KeyboardInterrupt:
        console.print("interrupted")
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/train_digits.py", description=DESCRIPTION)
    parser.add_argument(
        "-o",
        "--output",
        type=_folder,
        default=DEFAULT_OUTPUT,
        metavar="FOLDER",
        help="folder to write to (default: partitions/digits of this project)",
    )
    parser.add_argument(
        "--seed",
        type=_whole_number,
        default=DEFAULT_SEED,
        help="of the split, the weights and the augmentation (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=_positive_number,
        default=DEFAULT_EPOCHS,
        metavar="N",
        help="at most so many; fewer if validation stops improving (default: %(default)s)",
    )
    parser.add_argument(
        "--model-version",
        type=_positive_number,
        default=1,
        metavar="N",
        help="version in model.json; a model that replaces another needs a larger one "
        "(default: %(default)s)",
    )
    return parser


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, {text} is a file")
    return path


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"expected a whole number below 10^9, got {text!r}")
    return int(text)


def _positive_number(text: str) -> int:
    number = _whole_number(text)
    if number == 0:
        raise argparse.ArgumentTypeError("expected a whole number from 1, got 0")
    return number


def _run(arguments: argparse.Namespace, console: Console) -> None:
    # These import torch; only now is it known to be there.
    from tools.training.export import export  # noqa: PLC0415 - see above
    from tools.training.network import folded  # noqa: PLC0415 - see above
    from tools.training.train import TORCH_VERSION, evaluate, tensors_of  # noqa: PLC0415 - see above

    data = digits.load()
    split = digits.split_by_class(data.labels, arguments.seed)
    validation, test = data.part(split.validation), data.part(split.test)
    training = _train(data.part(split.train), validation, arguments, console)
    network = folded(training.network)
    model = export(network, tensors_of(validation, training.normalisation), _run_model)
    # The only look at the test part, at the very network that is written.
    accuracy = evaluate(network, test, training.normalisation).accuracy
    console.print(f"test accuracy {accuracy:.2%} of {len(test.labels)} pictures not used before")
    if accuracy < MINIMUM_ACCURACY:
        raise ModelError(f"expected a test accuracy of at least {MINIMUM_ACCURACY:.0%}")
    facts = Facts(
        model_version=arguments.model_version,
        normalisation=training.normalisation,
        split=split,
        seed=arguments.seed,
        epochs=training.epochs,
        validation_accuracy=training.validation.accuracy,
        test_accuracy=accuracy,
        torch_version=TORCH_VERSION,
    )
    samples = test.part(digits.first_of_each_class(test.labels, SAMPLES_PER_CLASS))
    write_folder(arguments.output, model, facts, samples)
    write_test_set(arguments.output, test)
    _explain_next(arguments.output, console)


def _train(
    training: digits.Digits,
    validation: digits.Digits,
    arguments: argparse.Namespace,
    console: Console,
) -> Training:
    from tools.training.train import train  # noqa: PLC0415 - imports torch

    def report(epoch: int, score: Score) -> None:
        console.print(
            f"epoch {epoch:3} of at most {arguments.epochs}: "
            f"validation loss {score.loss:.4f}, accuracy {score.accuracy:.2%}"
        )

    return train(
        training, validation, seed=arguments.seed, max_epochs=arguments.epochs, report=report
    )


def _run_model(path: Path, images: NDArray[np.float32]) -> NDArray[Any]:
    from tools.training.export import INPUT_NAME, OUTPUT_NAME  # noqa: PLC0415 - imports torch

    try:
        return WholeModel(path, "none").run({INPUT_NAME: images})[OUTPUT_NAME]
    except EngineError as error:
        raise ModelError(f"onnxruntime refuses the exported model: {error}") from error


def _explain_next(output: Path, console: Console) -> None:
    shown = output.relative_to(ROOT) if output.is_relative_to(ROOT) else output
    console.print(
        f"written: {shown}. Partitions in it are still those of the model before; next:\n"
        f"  tools/partition.py {shown}/model.onnx -o {shown} --budget 85MiB\n"
        f"  tools/check_accuracy.py {shown}"
    )
