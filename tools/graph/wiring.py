"""Finds out why the operators of a graph can't run in the order that they stand in."""

from __future__ import annotations

import onnx


def wiring_problem(graph: onnx.GraphProto) -> str | None:
    """Says which operator reads what isn't there, and why; None when all can run.

    Values that only subgraphs read aren't looked at.
    """
    there = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    there |= {tensor.values.name for tensor in graph.sparse_initializer} | {""}
    known = there | {name for node in graph.node for name in node.output}
    waiting: list[onnx.NodeProto] = []
    for node in graph.node:
        lost = next((name for name in node.input if name not in known), None)
        if lost is not None:
            return (
                f"operator {_name(node)} reads {lost!r}, which isn't an input, an initializer or "
                "the output of an operator"
            )
        if there.issuperset(node.input):
            there.update(node.output)
        else:
            waiting.append(node)
    if not waiting:
        return None
    return _order_problem(waiting, there)


def _order_problem(waiting: list[onnx.NodeProto], there: set[str]) -> str:
    """Runs what can run, again and again; what is left then waits for itself."""
    first = waiting[0]
    while waiting:
        ready = [node for node in waiting if there.issuperset(node.input)]
        if not ready:
            return f"operator {_name(waiting[0])} waits for itself: the graph has a cycle"
        there.update(name for node in ready for name in node.output)
        done = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in done]
    return f"operator {_name(first)} stands before one that it reads from"


def _name(node: onnx.NodeProto) -> str:
    return f"{node.name!r} ({node.op_type})" if node.name else f"of type {node.op_type}"
