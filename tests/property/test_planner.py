"""Laws of the planner, on made-up graphs of every shape."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InputError
from app.tensors import TensorSpec
from tools.errors import NoFeasiblePlanError
from tools.planner.plan import Plan
from tools.planner.planner import OBJECTIVES, plan_for_budget, plan_for_count
from tools.planner.summary import GraphSummary, NodeSummary

SIZES = st.integers(0, 500_000)


@st.composite
def graphs(draw: st.DrawFn) -> GraphSummary:
    """Draws a graph; now and then with a value that can't cross a cut, or of unknown size."""
    values = {f"in{i}": _spec(f"in{i}", draw(SIZES)) for i in range(draw(st.integers(1, 3)))}
    inputs = tuple(values)
    weights = {f"w{i}": draw(SIZES) for i in range(draw(st.integers(0, 8)))}
    nodes: list[NodeSummary] = []
    made = list(inputs)
    for index in range(draw(st.integers(1, 25))):
        reads = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
        outputs = tuple(f"v{index}.{i}" for i in range(draw(st.integers(1, 2))))
        held = (
            draw(st.lists(st.sampled_from(sorted(weights)), max_size=2, unique=True))
            if weights
            else []
        )
        nodes.append(NodeSummary(f"node{index}", "Op", tuple(reads), outputs, tuple(held)))
        for name in outputs:
            if draw(st.integers(0, 19)) > 0:
                values[name] = _spec(name, draw(SIZES))
        made += outputs
    known = [name for name in made if name in values and name not in inputs]
    outputs = (
        tuple(draw(st.lists(st.sampled_from(known), max_size=3, unique=True))) if known else ()
    )
    return GraphSummary(tuple(nodes), values, weights, inputs, outputs, {})


def _spec(name: str, size: int) -> TensorSpec:
    return TensorSpec(name, "uint8", (size,))


BUDGETS = st.integers(1, 8_000_000)
"""The structures alone are predicted to take 1 to 3 MB."""
HOW = st.sampled_from(OBJECTIVES)


@settings(max_examples=200)
@given(graphs(), BUDGETS, HOW, st.booleans(), st.sampled_from([1, 2, 8]))
def test_plan_keeps_its_budget_or_says_what_would_do(
    graph: GraphSummary, budget: int, objective: str, overlap: bool, lock_step: int
) -> None:
    plan_for = partial(
        plan_for_budget, graph, objective=objective, overlap=overlap, lock_step=lock_step
    )
    try:
        plan = plan_for(budget)
    except NoFeasiblePlanError as error:
        assert error.required_bytes > error.budget_bytes == budget
        assert error.node in {node.name for node in graph.nodes}
        plan = plan_for(error.required_bytes)
    assert plan.peak_bytes <= plan.budget_bytes
    check_plan(graph, plan)


@settings(max_examples=60)
@given(graphs(), BUDGETS, st.booleans())
def test_objectives_are_feasible_together_and_keep_what_they_promise(
    graph: GraphSummary, budget: int, overlap: bool
) -> None:
    try:
        fewest = plan_for_budget(graph, budget, objective="partitions", overlap=overlap)
    except NoFeasiblePlanError as error:
        with pytest.raises(NoFeasiblePlanError) as found:
            plan_for_budget(graph, budget, objective="time", overlap=overlap)
        assert found.value.required_bytes == error.required_bytes
        return
    fastest = plan_for_budget(graph, budget, objective="time", overlap=overlap)
    assert len(fewest.partitions) <= len(fastest.partitions)


@settings(max_examples=100)
@given(graphs(), st.integers(1, 30))
def test_plan_has_as_many_partitions_as_asked(graph: GraphSummary, count: int) -> None:
    try:
        plan = plan_for_count(graph, count)
    except InputError:
        assert count > 1
        return
    assert len(plan.partitions) == count
    assert plan.peak_bytes <= plan.budget_bytes
    check_plan(graph, plan)


def check_plan(graph: GraphSummary, plan: Plan) -> None:
    """Plays the plan through: order, availability, release and accounting."""
    live = set(graph.inputs)
    expected = 0
    for partition in plan.partitions:
        nodes = graph.nodes[partition.start : partition.stop]
        assert partition.start == expected < partition.stop, "every node once, in order"
        expected = partition.stop
        assert {spec.name for spec in partition.inputs} <= live, "reads what is there"
        boundary = sum(graph.value_bytes(name) for name in live)
        assert boundary == partition.boundary_bytes
        inside = {spec.name for spec in partition.inputs}
        for node in nodes:
            assert set(node.inputs) <= inside, "nothing comes from elsewhere"
            inside |= set(node.outputs)
        made = {name for node in nodes for name in node.outputs}
        assert {spec.name for spec in partition.outputs} <= made
        live |= {spec.name for spec in partition.outputs}
        assert set(partition.release) <= live
        live -= set(partition.release)
    assert expected == len(graph.nodes)
    assert live == set(graph.outputs), "in the end there is nothing but the answer"


@settings(max_examples=60)
@given(graphs(), BUDGETS, BUDGETS)
def test_larger_budget_never_needs_more_partitions(graph: GraphSummary, a: int, b: int) -> None:
    small, large = sorted((a, b))
    try:
        plan = plan_for_budget(graph, small, objective="partitions")
    except NoFeasiblePlanError:
        return
    more = plan_for_budget(graph, large, objective="partitions")
    assert len(more.partitions) <= len(plan.partitions)


@settings(max_examples=60)
@given(graphs(), BUDGETS, BUDGETS)
def test_what_is_feasible_stays_feasible(graph: GraphSummary, a: int, b: int) -> None:
    small, large = sorted((a, b))
    try:
        plan_for_budget(graph, small)
    except NoFeasiblePlanError:
        return
    plan_for_budget(graph, large)


@settings(max_examples=60)
@given(graphs(), BUDGETS, HOW)
def test_names_decide_nothing(graph: GraphSummary, budget: int, objective: str) -> None:
    renamed = _renamed(graph)
    try:
        plan = plan_for_budget(graph, budget, objective=objective)
    except NoFeasiblePlanError as error:
        with pytest.raises(NoFeasiblePlanError) as found:
            plan_for_budget(renamed, budget, objective=objective)
        assert found.value.required_bytes == error.required_bytes
        return
    other = plan_for_budget(renamed, budget, objective=objective)
    assert plan == plan_for_budget(graph, budget, objective=objective), "deterministic"
    assert plan.peak_bytes == other.peak_bytes
    assert [(p.start, p.stop) for p in plan.partitions] == [
        (p.start, p.stop) for p in other.partitions
    ]
    for mine, theirs in zip(plan.partitions, other.partitions, strict=True):
        assert [_other(spec.name) for spec in mine.inputs] == [s.name for s in theirs.inputs]
        assert [_other(spec.name) for spec in mine.outputs] == [s.name for s in theirs.outputs]
        assert [_other(name) for name in mine.release] == list(theirs.release)
        assert mine.activation_bytes == theirs.activation_bytes
        assert mine.boundary_bytes == theirs.boundary_bytes
        assert mine.run_ns == theirs.run_ns


def _other(name: str) -> str:
    """A renaming that turns the order of names around."""
    return "".join(chr(0x10FF - ord(c)) for c in name)


def _renamed(graph: GraphSummary) -> GraphSummary:
    def all_(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_other(name) for name in names)

    return GraphSummary(
        tuple(
            NodeSummary(n.name, n.op_type, all_(n.inputs), all_(n.outputs), all_(n.weights))
            for n in graph.nodes
        ),
        {_other(n): replace(spec, name=_other(n)) for n, spec in graph.values.items()},
        {_other(n): size for n, size in graph.weight_bytes.items()},
        all_(graph.inputs),
        all_(graph.outputs),
        {},
    )
