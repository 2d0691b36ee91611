"""Plans for a budget and for a count, on graphs small enough to do the sums by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.errors import InputError
from app.limits import KIB, MIB
from app.objects import TAG_BYTES
from app.schedule import HAND_OVER_BYTES, lanes
from app.tensors import TensorSpec
from tests.unit.tools.planner.graphs import GRAPH, chain
from tools.errors import NoFeasiblePlanError
from tools.planner.cost import ENGINE_BYTES, SESSION_BYTES, SESSION_NODE_BYTES, thread_bytes
from tools.planner.liveness import Liveness
from tools.planner.planner import OBJECTIVES, chunk_size, plan_for_budget, plan_for_count
from tools.sizes import parse_size

CHUNK = 16 * 1024 + TAG_BYTES
"""The reader's own memory where weights are small."""


def structures(nodes: int, partitions: int) -> int:
    """The predicted size of all resident structures, for one thread."""
    return ENGINE_BYTES + thread_bytes(1) + partitions * SESSION_BYTES + nodes * SESSION_NODE_BYTES


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_fits_is_not_cut_and_everything_stays_in_memory(objective: str) -> None:
    plan = plan_for_budget(GRAPH, 4 << 20, objective=objective)
    [partition] = plan.partitions
    assert (partition.start, partition.stop) == (0, 4)
    assert (partition.boundary_bytes, partition.activation_bytes) == (11, 110_200)
    working = partition.boundary_bytes + partition.activation_bytes
    assert plan.peak_bytes == CHUNK + structures(4, 1) + 192 + working
    assert plan.request_ns == partition.run_ns, "nothing is loaded"


def test_fewest_partitions_and_among_those_the_smallest_boundary() -> None:
    """Two partitions are needed; the only narrow cut is in the middle."""
    graph = chain([64_000] * 4, value_bytes=500)
    narrow = {**graph.values, "v2": TensorSpec("v2", "uint8", ("n", 1))}
    needed = structures(4, 2) + 3 * 64_000 + 2000
    budget = needed * 16 // 15 + 1000  # a 16th for chunks
    plan = plan_for_budget(replace(graph, values=narrow), budget, objective="partitions")
    assert [(p.start, p.stop) for p in plan.partitions] == [(0, 2), (2, 4)]


def test_shared_weight_counts_once_in_a_partition() -> None:
    one = GRAPH.nodes[2]
    graph = replace(GRAPH, nodes=(*GRAPH.nodes[:2], one, GRAPH.nodes[3]))
    assert plan_for_count(graph, 1).partitions[0].weights_bytes == 192


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    ("weights", "node"),
    [
        ([64, 640_000, 64], "n1"),
        ([64], "n0"),
        ([64_000] * 4, "n0"),
        ([200_000] * 20, "n0"),
        ([100] * 20, "n0"),
    ],
)
def test_what_is_needed_at_the_least_is_said_and_does(
    weights: list[int], node: str, overlap: bool, objective: str
) -> None:
    graph = chain(weights)
    with pytest.raises(NoFeasiblePlanError) as error:
        plan_for_budget(graph, 20_000, objective=objective, overlap=overlap)
    assert error.value.node == node
    assert error.value.budget_bytes == 20_000
    required = error.value.required_bytes
    # What people read in the message is what they may type.
    assert required == parse_size(f"{required / MIB:.2f}MiB")
    assert f"({required / MIB:.2f} MiB)" in str(error.value)
    plan = plan_for_budget(graph, required, objective=objective, overlap=overlap)
    assert plan.peak_bytes <= required
    with pytest.raises(NoFeasiblePlanError):
        plan_for_budget(graph, required * 99 // 100, objective=objective, overlap=overlap)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_batch_in_lock_step_needs_room_for_all_its_tensors(objective: str) -> None:
    graph = chain([64_000] * 4, value_bytes=200_000)
    budget = structures(4, 4) + 64_000 + 5 * 200_000 + 100_000
    plan = plan_for_budget(graph, budget, objective=objective)
    assert plan.peak_bytes <= budget
    with pytest.raises(NoFeasiblePlanError) as error:
        plan_for_budget(graph, budget, objective=objective, lock_step=8)
    more = error.value.required_bytes
    assert more >= budget + 3 * 200_000
    together = plan_for_budget(graph, more, objective=objective, lock_step=8)
    assert together.peak_bytes <= more


def test_symbolic_dimensions_count_as_planned() -> None:
    small = plan_for_budget(chain([64], 16), 4 << 20).partitions[0]
    graph = replace(chain([64], 16), dimensions={"n": 8})
    large = plan_for_budget(graph, 4 << 20).partitions[0]
    assert (small.input_bytes, small.boundary_bytes, small.activation_bytes) == (16, 16, 16)
    assert (large.input_bytes, large.boundary_bytes, large.activation_bytes) == (128, 128, 128)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_weights_are_spread_over_an_exact_number(count: int) -> None:
    plan = plan_for_count(chain([640] * 20), count)
    assert len(plan.partitions) == count
    assert max(p.weights_bytes for p in plan.partitions) <= 2 * 640 * 20 / count
    assert plan.budget_bytes >= plan.peak_bytes


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


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nodes_that_belong_together_are_refused_together(objective: str) -> None:
    """No operator alone is too large, but two of them can't be cut apart."""
    values = {name: spec for name, spec in GRAPH.values.items() if name != "b"}
    graph = replace(GRAPH, values=values, weight_bytes={"w": 500_000, "v": 400_000})
    budget = structures(4, 3) + 600_000 + 200_000
    with pytest.raises(NoFeasiblePlanError) as error:
        plan_for_budget(graph, budget, objective=objective)
    assert error.value.node in {"n1", "n2", "n3"}
    assert error.value.required_bytes > budget


@pytest.mark.parametrize(
    ("budget", "weights", "size"),
    [
        (1, [100], 16 * KIB),
        (1, [100 * MIB], 16 * KIB),
        (85 * MIB, [100 * MIB], 512 * KIB),
        (1 << 40, [100, 100 * MIB], 512 * KIB),
        (3 * MIB, [2 * MIB, 7], 96 * KIB),
        (3 * MIB, [8, 300 * KIB], 152 * KIB),  # all of the 16th is one thread's: half at a time
        (85 * MIB, [300 * KIB, 9], 300 * KIB),
    ],
)
def test_chunk(budget: int, weights: list[int], size: int) -> None:
    assert chunk_size(budget, weights) == size


@pytest.mark.parametrize("budget", [1, 3 * MIB, 9 * MIB, 85 * MIB])
@pytest.mark.parametrize("weights", [1, 20_000, 500_000, HAND_OVER_BYTES, 10_000_000])
def test_chunks_of_all_threads_stay_within_a_sixteenth(budget: int, weights: int) -> None:
    scratch = lanes([weights]) * chunk_size(budget, [weights])
    assert scratch <= max(2 * 16 * KIB, budget // 16)


def test_every_partition_has_a_structure_and_the_first_the_engine() -> None:
    plan = plan_for_count(chain([640] * 6), 3)
    assert sum(each.session_bytes for each in plan.partitions) == structures(6, 3)
    assert plan.partitions[0].session_bytes > ENGINE_BYTES > plan.partitions[1].session_bytes


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_hundreds_of_operators_are_planned_in_reasonable_work(
    monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """The question whether a cut is allowed costs nothing per value."""
    asked = 0
    original = Liveness.may_cut

    def count(self: Liveness, cut: int) -> bool:
        nonlocal asked
        asked += 1
        return original(self, cut)

    monkeypatch.setattr(Liveness, "may_cut", count)
    budget = structures(300, 20) + 64_000 * 30
    plan = plan_for_budget(chain([64_000] * 300), budget, objective=objective)
    assert len(plan.partitions) >= 8
    assert asked < 300 * 300 * 20


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_in_lock_step_has_room_for_all_of_its_requests(objective: str) -> None:
    """A plan for four is never smaller than one for a single request, and it says which it is."""
    graph = chain([200_000] * 10, value_bytes=50_000)
    for requests in (1, 4):
        plan = plan_for_budget(graph, 5 * MIB, objective=objective, lock_step=requests)
        assert plan.lock_step == requests
        assert plan.peak_bytes <= plan.budget_bytes
    one, four = (plan_for_count(graph, 5, lock_step=requests) for requests in (1, 4))
    assert four.budget_bytes >= one.budget_bytes + 3 * 50_000
    assert four.request_ns < 4 * one.request_ns, "they share each loading"


def test_a_refusal_names_what_all_requests_of_a_batch_need() -> None:
    graph = chain([200_000] * 10, value_bytes=300_000)
    with pytest.raises(NoFeasiblePlanError) as alone:
        plan_for_budget(graph, 100_000)
    with pytest.raises(NoFeasiblePlanError) as batch:
        plan_for_budget(graph, 100_000, lock_step=8)
    required = batch.value.required_bytes
    assert required >= alone.value.required_bytes + 7 * 300_000
    assert plan_for_budget(graph, required, lock_step=8).peak_bytes <= required


def test_more_threads_compute_faster_and_load_as_before() -> None:
    nodes = tuple(replace(node, operations=10**9) for node in chain([64_000] * 4).nodes)
    graph = replace(chain([64_000] * 4), nodes=nodes)
    one, two = (plan_for_count(graph, 2, overlap=False, threads=count) for count in (1, 2))
    for slow, fast in zip(one.partitions, two.partitions, strict=True):
        assert slow.run_ns / 2 < fast.run_ns < slow.run_ns * 0.55
    assert one.request_ns - sum(each.run_ns for each in one.partitions) == (
        two.request_ns - sum(each.run_ns for each in two.partitions)
    )
