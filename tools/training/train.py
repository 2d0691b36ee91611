"""The training loop: seeded, with early stopping on the validation part.

Two runs on one machine give the same weights: the seed feeds every random
choice, torch is held to deterministic algorithms, and the number of threads
is fixed because sums are split among them. Another kind of CPU may round
differently.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tools.training.digits import LABELS, Digits
from tools.training.network import make_network
from tools.training.pictures import Normalisation, measure, moved, normalised, picture_of, pixels_of

BATCH: Final = 64
LEARNING_RATE: Final = 2e-3
WEIGHT_DECAY: Final = 1e-2
LABEL_SMOOTHING: Final = 0.05
PATIENCE_EPOCHS: Final = 12
THREADS: Final = 2
TORCH_VERSION: Final = str(torch.__version__).partition("+")[0]


@dataclass(frozen=True)
class Score:
    """Mean cross entropy in nats, and the share of right answers."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Training:
    """The network of the epoch with the smallest validation loss.

    Attributes:
        network: in eval mode.
        normalisation: measured on the training part.
        epochs: how many were run, those after the best one included.
        validation: score of `network` on the validation part.
    """

    network: nn.Module
    normalisation: Normalisation
    epochs: int
    validation: Score


def train(
    training: Digits,
    validation: Digits,
    *,
    seed: int,
    max_epochs: int,
    report: Callable[[int, Score], None],
) -> Training:
    """Trains a new network.

    Args:
        training: what the network learns from.
        validation: decides which epoch is kept and when to stop.
        seed: of the weights, the order and the moves of the pictures.
        max_epochs: the learning rate reaches zero after so many.
        report: called after every epoch with its number, from 1, and its validation score.

    Returns:
        The best network and how it came about.
    """
    make_deterministic(seed)
    rng = np.random.default_rng(seed)
    normalisation = measure(_pixels(training))
    network = make_network(len(LABELS))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
    best, best_epoch, best_weights, epoch = Score(float("inf"), 0.0), 0, {}, 0
    while epoch < max_epochs and epoch - best_epoch < PATIENCE_EPOCHS:
        epoch += 1
        for pixels, labels in _batches(training, normalisation, rng):
            _step(network, optimizer, pixels, labels)
        schedule.step()
        score = evaluate(network, validation, normalisation)
        report(epoch, score)
        if score.loss < best.loss:
            best, best_epoch = score, epoch
            best_weights = copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)
    return Training(network.eval(), normalisation, epoch, best)


def evaluate(network: nn.Module, digits: Digits, normalisation: Normalisation) -> Score:
    """Scores a network on unmoved pictures; leaves it in eval mode."""
    network.eval()
    inputs = torch.from_numpy(tensors_of(digits, normalisation))
    labels = torch.from_numpy(digits.labels)
    with torch.no_grad():
        logits = network(inputs)
    loss = nn.functional.cross_entropy(logits, labels).item()
    return Score(loss, (logits.argmax(dim=1) == labels).double().mean().item())


def tensors_of(digits: Digits, normalisation: Normalisation) -> NDArray[np.float32]:
    """The network's input for unmoved pictures: float32 [N, 1, 32, 32]."""
    return normalised(_pixels(digits), normalisation)


def make_deterministic(seed: int) -> None:
    """Seeds torch and takes from it what may differ between two runs."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)


def _step(network: nn.Module, optimizer: Any, pixels: Any, labels: Any) -> None:
    network.train()
    optimizer.zero_grad()
    logits = network(pixels)
    loss: Any = nn.functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    loss.backward()
    optimizer.step()


def _batches(
    digits: Digits, normalisation: Normalisation, rng: np.random.Generator
) -> Iterator[tuple[Any, Any]]:
    """One epoch: every digit once, in a new order, each moved a little."""
    order = rng.permutation(len(digits.labels))
    for start in range(0, len(order), BATCH):
        chosen = digits.part(order[start : start + BATCH])
        pixels = np.stack([pixels_of(moved(picture_of(each), rng)) for each in chosen.values])
        inputs = torch.from_numpy(normalised(pixels, normalisation))
        yield inputs, torch.from_numpy(chosen.labels)


def _pixels(digits: Digits) -> NDArray[np.float32]:
    return np.stack([pixels_of(picture_of(values)) for values in digits.values])
