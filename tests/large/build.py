"""Builds a model whose weights don't fit into one protobuf message, in a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH: Final = 8192
LAYERS: Final = 9
BLOCK_ROWS: Final = 128
LAYER_BYTES: Final = WIDTH * WIDTH * 4


def build(folder: Path) -> Path:
    """Writes a chain of dense layers of 256 MiB each, 2.25 GiB in all, as external data."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    with (folder / "weights.bin").open("wb") as file:
        for _ in range(LAYERS):
            block = rng.standard_normal((BLOCK_ROWS, WIDTH)).astype(np.float32) / 64
            for number in range(WIDTH // BLOCK_ROWS):
                file.write(np.roll(block, number, axis=1).data)
    path = folder / "large.onnx"
    path.write_bytes(_model().SerializeToString())
    return path


def _model() -> onnx.ModelProto:
    values = ["x", *(f"v{layer}" for layer in range(LAYERS - 1)), "y"]
    nodes = [
        helper.make_node("Gemm", [values[n], f"w{n}"], [values[n + 1]], name=f"dense{n}")
        for n in range(LAYERS)
    ]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, WIDTH]) for n in ("x", "y")]
    graph = helper.make_graph(
        nodes, "large", info[:1], info[1:], [_weight(n) for n in range(LAYERS)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _weight(layer: int) -> onnx.TensorProto:
    tensor = TensorProto(
        name=f"w{layer}",
        data_type=TensorProto.FLOAT,
        dims=[WIDTH, WIDTH],
        data_location=TensorProto.EXTERNAL,
    )
    place = {"location": "weights.bin", "offset": layer * LAYER_BYTES, "length": LAYER_BYTES}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
