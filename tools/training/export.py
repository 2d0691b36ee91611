"""A trained network as an ONNX file, checked against torch before anybody gets it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tools.training.agreement import check_same
from tools.training.pictures import INPUT_SIDE

OPSET: Final = 17
INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "logits"

RunModel = Callable[[Path, NDArray[np.float32]], NDArray[np.float32]]
"""Runs the ONNX file at a path: "image" in, "logits" out."""


def export(network: nn.Module, examples: NDArray[np.float32], run: RunModel) -> bytes:
    """Exports a network with its weights inside the file.

    Args:
        network: in eval mode, batch normalisation folded, so that every weight in the file keeps
            the name that it has in torch.
        examples: float32 [N, 1, 32, 32], N other than 2: what the file must compute as torch does.
        run: another library than torch.

    Returns:
        A model of opset 17, for any number of pictures in a batch:
        "image" float32 [batch, 1, 32, 32] -> "logits" float32 [batch, classes].

    Raises:
        ModelError: the file doesn't compute what the network computes.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _write(network, path)
        with torch.no_grad():
            expected = network(torch.from_numpy(examples)).numpy()
        check_same(expected, run(path, examples))
        return path.read_bytes()


def _write(network: nn.Module, path: Path) -> None:
    # Two pictures: a batch of one could be taken for a dimension that is to be dropped.
    example = torch.zeros(2, 1, INPUT_SIDE, INPUT_SIDE)
    with warnings.catch_warnings():
        # The exporter by tracing is called legacy since torch 2.9; it is taken on purpose: a
        # network without control flow comes out node for node, and it needs no further library.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        )
