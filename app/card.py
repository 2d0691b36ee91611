"""What a model is for: its tensors, labels and preprocessing, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.fields import FieldError, Fields
from app.tensors import TensorSpec, read_spec

TASKS: Final = ("image-classification", "tensors")
"""What the appliance can serve; "tensors" is any model without a picture route."""

MAX_LABELS: Final = 100_000
MAX_TENSORS: Final = 256
MAX_SIDE: Final = 8192

_LEAST_FLOAT: Final = 2.0**-126
"""Smallest normal float32: below it digits are lost, and 1 / x may be infinite."""

_LARGEST_FLOAT: Final = 1e38
"""A third of the largest float32, which leaves room for rounding."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes an input tensor.

    Each channel value is `(pixel / scale - mean) / std`, with the pixel 0 to 255.

    Attributes:
        layout: "NCHW" or "NHWC".
        channels: 1 for greyscale, 3 for RGB.
        height, width: of the tensor, in pixels.
        fit: "stretch" to both sides, or "crop" the centre after scaling the shorter side.
        resize: the filter: "nearest", "bilinear" or "bicubic".
        scale: the divisor of a pixel.
        mean, std: one number per channel.
        invert: whether 255 - pixel is taken first.
    """

    layout: str
    channels: int
    height: int
    width: int
    fit: str
    resize: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    invert: bool

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_preprocessing` reads."""
        return {
            "layout": self.layout,
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "fit": self.fit,
            "resize": self.resize,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "invert": self.invert,
        }


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What clients may know of a model.

    Attributes:
        title: one line for people.
        task: one of `TASKS`.
        labels: one per class, in the order of the scores; empty without classes.
        scores: what the first output holds: "logits" or "probabilities".
        preprocessing: for "image-classification".
        inputs, outputs: the whole model's tensors.
    """

    title: str
    task: str
    labels: tuple[str, ...]
    scores: str
    preprocessing: Preprocessing | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_card` reads."""
        return {
            "title": self.title,
            "task": self.task,
            "labels": list(self.labels),
            "scores": self.scores,
            "preprocessing": self.preprocessing.to_json() if self.preprocessing else None,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }


def read_card(fields: Fields) -> ModelCard:
    """Reads a model card.

    Raises:
        FieldError: for anything that isn't a card.
    """
    purpose = read_purpose(fields)
    inputs = fields.each("inputs", read_spec, most=MAX_TENSORS)
    outputs = fields.each("outputs", read_spec, most=MAX_TENSORS)
    return with_tensors(purpose, inputs, outputs)


def with_tensors(
    purpose: Purpose, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> ModelCard:
    """Joins what the owner wrote and what the model says into one card."""
    return ModelCard(
        purpose.title,
        purpose.task,
        purpose.labels,
        purpose.scores,
        purpose.preprocessing,
        tuple(inputs),
        tuple(outputs),
    )


@dataclass(frozen=True, slots=True)
class Purpose:
    """The part of a card that the model's owner writes by hand; see `ModelCard`."""

    title: str
    task: str
    labels: tuple[str, ...]
    scores: str
    preprocessing: Preprocessing | None


def read_purpose(fields: Fields) -> Purpose:
    """Reads title, task, labels, scores and preprocessing.

    Raises:
        FieldError: when one of them is missing or doesn't fit the others.
    """
    title = fields.text("title", longest=200)
    task = fields.choice("task", TASKS)
    labels = fields.texts("labels", most=MAX_LABELS)
    scores = fields.choice("scores", ("logits", "probabilities"))
    raw = fields.take("preprocessing")
    if raw is None:
        if task == "image-classification":
            raise FieldError(f"{fields.where}.preprocessing: {task} needs it")
        return Purpose(title, task, labels, scores, None)
    inner = Fields(raw, f"{fields.where}.preprocessing")
    preprocessing = read_preprocessing(inner)
    inner.done()
    return Purpose(title, task, labels, scores, preprocessing)


def read_preprocessing(fields: Fields) -> Preprocessing:
    """Reads how a picture becomes a tensor.

    Raises:
        FieldError: for sizes out of bounds, mean and std that don't fit the channels, or numbers
            that no float32 tensor of a picture could hold.
    """
    found = Preprocessing(
        layout=fields.choice("layout", ("NCHW", "NHWC")),
        channels=fields.integer("channels", least=1, most=3),
        height=fields.integer("height", least=1, most=MAX_SIDE),
        width=fields.integer("width", least=1, most=MAX_SIDE),
        fit=fields.choice("fit", ("stretch", "crop")),
        resize=fields.choice("resize", ("nearest", "bilinear", "bicubic")),
        scale=fields.number("scale"),
        mean=fields.numbers("mean"),
        std=fields.numbers("std"),
        invert=fields.flag("invert"),
    )
    if found.channels == 2:
        raise FieldError(f"{fields.where}.channels: expected 1 (greyscale) or 3 (RGB), got 2")
    if not len(found.mean) == len(found.std) == found.channels:
        raise FieldError(
            f"{fields.where}: expected {found.channels} numbers in mean and std, "
            f"got {len(found.mean)} and {len(found.std)}"
        )
    _check_numbers(fields.where, found)
    return found


def _check_numbers(where: str, found: Preprocessing) -> None:
    """Refuses what gives infinities or loses digits in float32."""
    for name, numbers in (("scale", (found.scale,)), ("std", found.std)):
        if min(numbers) <= 0:
            raise FieldError(f"{where}.{name}: must be above 0, got {min(numbers)}")
        if min(numbers) < _LEAST_FLOAT or max(numbers) > _LARGEST_FLOAT:
            raise FieldError(
                f"{where}.{name}: expected {_LEAST_FLOAT:.2g} to {_LARGEST_FLOAT:.0e}, as float32 "
                f"needs it; got {min(numbers)} to {max(numbers)}"
            )
    brightest = 255 / found.scale
    for mean, std in zip(found.mean, found.std, strict=True):
        largest = max(abs(mean), abs(brightest - mean), abs(mean) / std)
        if max(largest, brightest, abs(brightest - mean) / std) > _LARGEST_FLOAT:
            raise FieldError(
                f"{where}: scale {found.scale}, mean {mean} and std {std} give numbers beyond "
                "float32; expected (pixel / scale - mean) / std to be a few units"
            )
