"""app/README.md lists every metric, event and field of the log, and none that isn't there."""

from __future__ import annotations

import re

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from app.audit import Audit
from app.runtime import Runtime
from app.server import metrics
from app.server.counters import TransportCounters
from app.server.logs import FIELDS, Event
from app.serving.statistics import Statistics
from tests.docs.commands import ROOT

TEXT = (ROOT / "app" / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(cloister_\w+|nv_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
SUFFIX = re.compile("_(bucket|sum|count)$")


def told() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric, by the name that a scrape has for it."""
    seen = TransportCounters(answers={200: 1})
    figures = metrics.Figures(Audit(Runtime.PROCESS), [Statistics("m", 1)], 1, 1, seen)
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for family in metrics.families(figures):
        text = generate_latest(_Only(family)).decode()
        kind = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert len(kind) == 1
        found[kind[0][0]] = (kind[0][1], frozenset(labels))
    return found


def test_table_of_metrics_is_complete_and_right() -> None:
    shown = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(TEXT)
    }
    assert shown == told()
    assert len(ROW.findall(TEXT)) == len(shown), "no row twice"


def test_values_of_labels_are_listed() -> None:
    seen = TransportCounters()
    figures = metrics.Figures(Audit(Runtime.PROCESS), [Statistics("m", 1)], 1, 1, seen)
    values = {
        sample.labels[name]
        for family in metrics.families(figures)
        for sample in family.samples
        for name in ("phase", "reason")
        if name in sample.labels and family.name.startswith("cloister_")
    }
    assert values
    assert [value for value in sorted(values) if f"`{value}`" not in TEXT] == []


def test_log_is_described() -> None:
    log = TEXT[TEXT.index("**The log**") :].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_ ]+)`", log)) - {"log_requests"} == {
        *FIELDS,
        *(event.value for event in Event),
    }


class _Only(Collector):
    """One metric."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        return [self._family]
