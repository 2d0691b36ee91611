"""What kernels take beside their outputs, against what onnxruntime was seen to allocate."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import pytest

from tools.graph.workspace import Workspace, overwrites, workspace

PICTURE = (1, 64, 40, 40)


def node(
    op_type: str,
    shapes: list[tuple[int, ...]],
    output: tuple[int, ...],
    domain: str = "",
    dtype: ir.DataType = ir.DataType.FLOAT,
    **attributes: int | list[int],
) -> tuple[ir.Node, Mapping[ir.Value, tuple[int, ...]]]:
    inputs = [
        ir.Value(name=f"i{place}", type=ir.TensorType(dtype), shape=ir.Shape(shape))
        for place, shape in enumerate(shapes)
    ]
    given = [
        ir.AttrInt64s(name, value) if isinstance(value, list) else ir.AttrInt64(name, value)
        for name, value in attributes.items()
    ]
    made = ir.Node(domain, op_type, inputs, given, num_outputs=1)
    made.outputs[0].name = "y"
    return made, {**dict(zip(inputs, shapes, strict=True)), made.outputs[0]: output}


CASES = {
    "convolution in segments": (
        node("Conv", [PICTURE, (32, 64, 3, 3)], (1, 32, 40, 40), pads=[1] * 4),
        Workspace(0, 65536),
    ),
    "convolution unfolded whole": (
        node("Conv", [PICTURE, (2000, 64, 3, 3)], (1, 2000, 40, 40), pads=[1] * 4),
        Workspace(3686400),
    ),
    "pointwise": (node("Conv", [PICTURE, (32, 64, 1, 1)], (1, 32, 40, 40)), Workspace()),
    "pointwise with strides": (
        node("Conv", [PICTURE, (32, 64, 1, 1)], (1, 32, 20, 20), strides=[2, 2]),
        Workspace(0, 65536),
    ),
    "depthwise": (
        node("Conv", [PICTURE, (64, 1, 3, 3)], PICTURE, pads=[1] * 4, group=64),
        Workspace(0, 65536),
    ),
    "blocked": (
        node("Conv", [PICTURE, (2000, 64, 3, 3)], PICTURE, "com.microsoft.nchwc"),
        Workspace(),
    ),
    "transposed": (
        node("ConvTranspose", [PICTURE, (64, 32, 2, 2)], (1, 32, 80, 80), strides=[2, 2]),
        Workspace(819200),
    ),
    "integers": (
        node("ConvInteger", [PICTURE, (32, 64, 3, 3)], (1, 32, 40, 40)),
        Workspace(921600),
    ),
    "recurrent": (
        node("LSTM", [(20, 1, 256), (1, 2048, 256), (1, 2048, 512)], (20, 1, 1, 512)),
        Workspace(163840),
    ),
    "softmax inside": (node("Softmax", [PICTURE], PICTURE, axis=1), Workspace(819200)),
    "softmax at the end": (node("Softmax", [PICTURE], PICTURE), Workspace()),
    "responses": (node("LRN", [PICTURE], PICTURE, size=5), Workspace(409600 + 435200)),
    "attention": (node("Attention", [(1, 12, 128, 64)] * 3, (1, 12, 128, 64)), Workspace(786432)),
    "two copies": (node("Where", [PICTURE] * 3, PICTURE), Workspace(819200)),
    "none": (node("Add", [PICTURE] * 2, PICTURE), Workspace()),
    "half precision": (
        node("Add", [(10,), (10,)], (10,), dtype=ir.DataType.FLOAT16),
        Workspace(120),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_workspace(case: str) -> None:
    (found, shapes), expected = CASES[case]
    assert workspace(found, shapes.get) == expected


@pytest.mark.parametrize("case", CASES)
def test_unknown_shapes_are_no_error(case: str) -> None:
    (found, _), _ = CASES[case]
    assert workspace(found, lambda _: None).bytes == 0


def test_in_place() -> None:
    assert overwrites(node("Relu", [PICTURE], PICTURE)[0]) == ("i0",)
    assert overwrites(node("Add", [PICTURE] * 2, PICTURE)[0]) == ()
    assert overwrites(node("Exp", [PICTURE], PICTURE)[0]) == ()
    fused = node("FusedConv", [PICTURE, (1,), (1,), PICTURE], PICTURE, "com.microsoft")[0]
    assert overwrites(fused) == ("i3",), "the sum that was fused into it"
