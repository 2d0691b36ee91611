"""The order of the operators: never worse than the file's, best where that can be checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.tensors import TensorSpec
from tests.unit.tools.planner.graphs import GRAPH
from tools.planner.order import Measure, best_order, measure, reordered
from tools.planner.summary import GraphSummary, NodeSummary


def graph_of(reads: Sequence[Sequence[int]], sizes: Sequence[int]) -> GraphSummary:
    """A graph of operators with one value each: what each one reads, by position; -1 is "x"."""
    names = {-1: "x", **{i: f"v{i}" for i in range(len(reads))}}
    used = {place for each in reads for place in each}
    return GraphSummary(
        tuple(
            NodeSummary(f"n{i}", "Op", tuple(names[r] for r in each), (names[i],), ())
            for i, each in enumerate(reads)
        ),
        {
            names[i]: TensorSpec(names[i], "uint8", (size,))
            for i, size in zip(names, [1, *sizes], strict=True)
        },
        {},
        ("x",),
        tuple(names[i] for i in range(len(reads)) if i not in used),
        {},
    )


@st.composite
def graphs(draw: st.DrawFn, most: int = 7) -> GraphSummary:
    count = draw(st.integers(1, most))
    reads = [
        draw(st.lists(st.integers(-1, i - 1), min_size=1, max_size=2, unique=True))
        for i in range(count)
    ]
    return graph_of(reads, draw(st.lists(st.integers(0, 50), min_size=count, max_size=count)))


def orders(graph: GraphSummary) -> Iterator[tuple[int, ...]]:
    """All topological orders."""
    made = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    needs = [{made[name] for name in node.inputs if name in made} for node in graph.nodes]

    def walk(done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(done) == len(needs):
            yield done
        for i, need in enumerate(needs):
            if i not in done and need <= set(done):
                yield from walk((*done, i))

    return walk(())


def interleaved(branches: int, length: int) -> GraphSummary:
    """Branches that grow first and shrink at their end, written one step of each in turn."""
    reads = [[-1]]
    sizes = [10]
    for step in range(length):
        for branch in range(branches):
            reads.append([0 if step == 0 else len(reads) - branches])
            sizes.append(1 if step == length - 1 else 100 + branch)
    reads.append(list(range(len(reads) - branches, len(reads))))
    return graph_of(reads, [*sizes, 1])


@settings(max_examples=100)
@given(graphs())
def test_no_order_is_better(graph: GraphSummary) -> None:
    """Small graphs: no other topological order is better in both figures."""
    order = best_order(graph)
    found = measure(reordered(graph, order))
    every = [measure(reordered(graph, each)) for each in orders(graph)]
    own = measure(graph)
    assert found in every, "topological, every operator once"
    allowed = [each for each in every if each == own or each.is_better(own)]
    least = min(each.peak_bytes for each in every)
    assert not any(each.is_better(found) for each in allowed if each.peak_bytes == least)
    assert order == tuple(range(len(graph.nodes))) or found.is_better(own)


@settings(max_examples=30)
@given(graphs(most=20))
def test_never_worse_than_the_order_of_the_file(graph: GraphSummary) -> None:
    order = best_order(graph)
    assert sorted(order) == list(range(len(graph.nodes)))
    found, own = measure(reordered(graph, order)), measure(graph)
    assert found == own or found.is_better(own)
    assert order == best_order(graph), "deterministic"
    renamed = replace(
        graph, nodes=tuple(replace(node, name=node.name[::-1]) for node in graph.nodes)
    )
    assert order == best_order(renamed)


def test_interleaved_branches_are_walked_one_after_another() -> None:
    graph = interleaved(branches=3, length=6)
    own, found = measure(graph), measure(reordered(graph, best_order(graph)))
    assert own.peak_bytes > 3 * 100
    assert found.peak_bytes <= 2 * 102 + 10 + 2, "one branch at a time"
    assert found.traffic_bytes < own.traffic_bytes * 0.6


def test_more_branches_than_can_be_searched_are_still_ordered_well() -> None:
    graph = interleaved(branches=40, length=6)
    own, found = measure(graph), measure(reordered(graph, best_order(graph)))
    assert found.is_better(own)
    assert found.peak_bytes < own.peak_bytes / 4


def test_good_order_stays() -> None:
    assert best_order(GRAPH) == (0, 1, 2, 3)


def test_values_that_cannot_be_handed_over_stay_where_they_are() -> None:
    graph = interleaved(branches=3, length=6)
    values = {name: spec for name, spec in graph.values.items() if name != "v5"}
    order = best_order(replace(graph, values=values))
    assert order == tuple(range(len(graph.nodes)))


def test_better_is_less_in_one_figure_and_more_in_none() -> None:
    assert Measure(1, 5).is_better(Measure(2, 5))
    assert not Measure(1, 6).is_better(Measure(2, 5))
    assert not Measure(2, 5).is_better(Measure(2, 5))
