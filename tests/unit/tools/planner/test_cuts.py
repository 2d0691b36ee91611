from __future__ import annotations

from dataclasses import replace

import pytest

from app.errors import InputError
from app.objects import TAG_BYTES
from app.tensors import TensorSpec
from tests.unit.tools.planner.graphs import GRAPH
from tools.errors import NoFeasiblePlanError
from tools.planner.cuts import chunk_size, plan_for_budget, plan_for_count
from tools.planner.summary import GraphSummary, NodeSummary

CHUNK = 16 * 1024 + TAG_BYTES


def chain(weights: list[int], value_bytes: int = 1) -> GraphSummary:
    """Nodes one after another with weights of these sizes."""
    names = [f"v{index}" for index in range(len(weights) + 1)]
    return GraphSummary(
        tuple(
            NodeSummary(f"n{i}", "Op", (names[i],), (names[i + 1],), (f"w{i}",))
            for i in range(len(weights))
        ),
        {name: TensorSpec(name, "uint8", ("n", value_bytes)) for name in names},
        {f"w{index}": size for index, size in enumerate(weights)},
        (names[0],),
        (names[-1],),
        {},
    )


def test_what_fits_is_not_cut() -> None:
    plan = plan_for_budget(GRAPH, 1 << 20)
    [partition] = plan.partitions
    assert (partition.start, partition.stop) == (0, 4)
    assert partition.peak_bytes == CHUNK + 192 + 11 + 110_200


def test_fewest_partitions_and_among_those_the_smallest_boundary() -> None:
    """Two partitions are needed; the only narrow cut is in the middle."""
    graph = chain([640] * 4, value_bytes=500)
    narrow = {**graph.values, "v2": TensorSpec("v2", "uint8", ("n", 1))}
    plan = plan_for_budget(replace(graph, values=narrow), CHUNK + 3 * 640 + 2000)
    assert [(p.start, p.stop) for p in plan.partitions] == [(0, 2), (2, 4)]


def test_shared_weight_counts_once_in_a_partition() -> None:
    one = GRAPH.nodes[2]
    graph = replace(GRAPH, nodes=(*GRAPH.nodes[:2], one, GRAPH.nodes[3]))
    assert plan_for_count(graph, 1).partitions[0].weights_bytes == 192


@pytest.mark.parametrize(
    ("weights", "budget", "node", "required"),
    [
        ([64, 6400, 64], 20_000, "n1", CHUNK + 6400 + 2),
        ([64], 1, "n0", CHUNK + 64 + 2),
    ],
)
def test_operator_that_is_too_large_is_named_with_what_it_needs(
    weights: list[int], budget: int, node: str, required: int
) -> None:
    with pytest.raises(NoFeasiblePlanError) as error:
        plan_for_budget(chain(weights), budget)
    assert (error.value.node, error.value.required_bytes) == (node, required)
    assert error.value.budget_bytes == budget
    assert plan_for_budget(chain(weights), required).peak_bytes <= required


def test_symbolic_dimensions_count_as_planned() -> None:
    small = plan_for_budget(chain([64], 10), 1 << 20).partitions[0]
    large = plan_for_budget(replace(chain([64], 10), dimensions={"n": 8}), 1 << 20).partitions[0]
    assert (small.input_bytes, small.activation_bytes) == (10, 10)
    assert (large.input_bytes, large.activation_bytes) == (80, 80)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_weights_are_spread_over_an_exact_number(count: int) -> None:
    plan = plan_for_count(chain([640] * 20), count)
    assert len(plan.partitions) == count
    assert max(p.weights_bytes for p in plan.partitions) <= 2 * 640 * 20 / count
    assert plan.budget_bytes == plan.peak_bytes


@pytest.mark.parametrize(("count", "most"), [(5, 4), (100, 4)])
def test_more_partitions_than_operators(count: int, most: int) -> None:
    with pytest.raises(InputError, match=f"4 operators and can be cut into at most {most}"):
        plan_for_count(GRAPH, count)


@pytest.mark.parametrize("how", ["missing", "unknown rank"])
def test_value_that_cannot_be_handed_over_keeps_its_nodes_together(how: str) -> None:
    values = dict(GRAPH.values)
    del values["b"]
    if how == "unknown rank":
        values["b"] = TensorSpec("b", "uint8", None)
    plan = plan_for_count(replace(GRAPH, values=values), 3)
    assert [(p.start, p.stop) for p in plan.partitions] == [(0, 1), (1, 3), (3, 4)]


def test_nodes_that_belong_together_are_refused_together() -> None:
    """No operator alone is too large, but two of them can't be cut apart."""
    values = {name: spec for name, spec in GRAPH.values.items() if name != "b"}
    graph = replace(GRAPH, values=values, weight_bytes={"w": 5000, "v": 4000})
    budget = CHUNK + 5100 + 110_201
    with pytest.raises(NoFeasiblePlanError) as error:
        plan_for_budget(graph, budget)
    assert error.value.node in {"n1", "n2", "n3"}
    assert error.value.required_bytes > budget


@pytest.mark.parametrize(
    ("budget", "size"),
    [(1, 16 << 10), (85 << 20, 1 << 20), (1 << 40, 1 << 20), (3 << 20, 32 << 10)],
)
def test_chunk(budget: int, size: int) -> None:
    assert chunk_size(budget) == size


def test_thousand_operators_are_planned_in_reasonable_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question whether a cut is allowed costs nothing per value."""
    from tools.planner.liveness import Liveness

    asked = 0
    original = Liveness.may_cut

    def count(self: Liveness, cut: int) -> bool:
        nonlocal asked
        asked += 1
        return original(self, cut)

    monkeypatch.setattr(Liveness, "may_cut", count)
    plan = plan_for_budget(chain([640] * 300), CHUNK + 640 * 30)
    assert len(plan.partitions) >= 10
    assert asked < 300 * 300 * 20
