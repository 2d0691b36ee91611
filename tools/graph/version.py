"""Says what a model says in a version of ONNX that onnxruntime reads.

The onnx package knows newer operator sets than the onnxruntime that is used with it. Most of their
changes only allow more element types, so nearly every such model can be said in an older set. The
onnx package's own converter decides, and refuses where the meaning would change.
"""

from __future__ import annotations

from typing import Any, Final

import onnx
from onnx import inliner, version_converter

from tools.errors import ModelError

NEWEST_OPSET: Final = 26
"""Of the standard operators that onnxruntime 1.31 runs; a test asks it."""

NEWEST_IR_VERSION: Final = 13
"""Of the file format that onnxruntime 1.31 reads; a test asks it."""


def is_newer(model: onnx.ModelProto) -> bool:
    """Says whether onnxruntime would refuse a model for its version alone."""
    return model.ir_version > NEWEST_IR_VERSION or _opset(model) > NEWEST_OPSET


def readable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives a model that onnxruntime reads: the same one, or one that says the same.

    Args:
        model: external weights aren't looked at and stay external.

    Raises:
        ModelError: for an operator set that isn't known, or an operator that can't be said in
            an older one.
    """
    opset, known = _opset(model), onnx.defs.onnx_opset_version()
    if opset > known:
        raise ModelError(
            f"made for opset {opset}, but onnx {onnx.__version__} knows opsets up to {known}; "
            "export the model with an older one"
        )
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"of IR version {model.ir_version}, but onnx {onnx.__version__} knows versions up to "
            f"{onnx.IR_VERSION}; export the model with an older one"
        )
    if not is_newer(model):
        return model
    older = onnx.ModelProto()
    older.CopyFrom(model)
    if opset > NEWEST_OPSET:
        older = _converted(older)
    older.ir_version = min(older.ir_version, NEWEST_IR_VERSION)
    return older


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The converter knows no functions, so they are inlined before."""
    try:
        inlined = inliner.inline_local_functions(model, convert_version=True)
        return version_converter.convert_version(_expanded(inlined), NEWEST_OPSET)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split(" failed: ")[-1].splitlines()[0].removesuffix(".")
        raise ModelError(
            f"made for opset {_opset(model)}, onnxruntime runs opsets up to {NEWEST_OPSET}, "
            f"and it can't be said in that: {reason}; export the model with an older opset"
        ) from error


def _expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces new operators that ONNX itself defines by older ones."""
    found = {
        ("", node.op_type)
        for node in model.graph.node
        if not node.domain and _is_new_function(node.op_type, _opset(model))
    }
    if not found:
        return model
    return inliner.inline_selected_functions(model, sorted(found), inline_schema_functions=True)


def _is_new_function(op_type: str, opset: int) -> bool:
    if not onnx.defs.has(op_type):
        return False
    schema: Any = onnx.defs.get_schema(op_type, opset, "")
    defined = schema.has_function or schema.has_context_dependent_function
    return bool(schema.since_version > NEWEST_OPSET and defined)


def _opset(model: onnx.ModelProto) -> int:
    return max((each.version for each in model.opset_import if not each.domain), default=0)
