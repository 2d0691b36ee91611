"""Result files: one schema for every subcommand, as JSON with all samples and as CSV without.

    {"format": 1, "subcommand": "modes", "started": "2025-01-31T12:00:00+00:00", "partial": false,
     "machine": {…}, "versions": {…}, "commit": "… or …+changes", "settings": {…},
     "rows": [{"labels": {"model": …, "mode": …}, "metric": "latency", "unit": "s", "note": "",
               "n": 15, "median": …, "quartiles": [first, third], "samples": […], "at_s": […]}],
     "failures": [{"case": …, "reason": …}]}

A row without samples wasn't measured; its note says why. It is never a 0.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.errors import InputError
from app.fields import FieldError, Fields, parse_json
from tools.bench.spread import spread
from tools.files import write_file

FORMAT: Final = 1
NOT_AVAILABLE: Final = "not available"
"""What people read where a row has no samples."""

FOUND: Final = ("runtime", "partitions", "plan budget", "rate")
"""Labels that say what was found, not what was asked for: another commit, machine or moment may
find something else in the same place."""

_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Row:
    """One measured quantity of one case.

    Attributes:
        labels: what was measured, as {"model": "resnet-50", "threads": "1"}.
        metric: which quantity, as "latency".
        unit: "s", "bytes", "W", "1/s", or "" for a plain number.
        samples: every measurement; empty when it couldn't be taken.
        note: why there are no samples, or what a reader has to know.
        at_s: when each sample was taken, for a course over time; else empty.
    """

    labels: Mapping[str, str]
    metric: str
    unit: str
    samples: tuple[float, ...]
    note: str = ""
    at_s: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """What makes a row the same one in two files."""
        chosen = {name: text for name, text in self.labels.items() if name not in FOUND}
        return (tuple(sorted(chosen.items())), self.metric)

    @property
    def median(self) -> float:
        """Median of the samples.

        Raises:
            ValueError: when there are none.
        """
        return spread(self.samples).median

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_result` reads."""
        found: dict[str, object] = {
            "labels": dict(self.labels),
            "metric": self.metric,
            "unit": self.unit,
            "note": self.note,
            "n": len(self.samples),
        }
        if self.samples:
            middle = spread(self.samples)
            found |= {"median": middle.median, "quartiles": [middle.first, middle.third]}
        return {**found, "samples": list(self.samples), "at_s": list(self.at_s)}


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that couldn't be measured; the others were."""

    case: str
    reason: str


@dataclass(slots=True)
class Result:
    """What one run of a subcommand gave.

    Attributes:
        subcommand: its name.
        started: date and time, ISO 8601 with offset.
        machine, versions: what it ran on and with.
        commit: of this project, "+changes" added when files differ from it.
        settings: the options.
        rows: the measurements so far.
        failures: the cases that failed.
        partial: whether it was stopped before its end.
    """

    subcommand: str
    started: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    commit: str
    settings: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    partial: bool = False

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_result` reads."""
        return {
            "format": FORMAT,
            "subcommand": self.subcommand,
            "started": self.started,
            "partial": self.partial,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "commit": self.commit,
            "settings": dict(self.settings),
            "rows": [row.to_json() for row in self.rows],
            "failures": [{"case": each.case, "reason": each.reason} for each in self.failures],
        }

    def select(self, metric: str, **labels: str) -> list[Row]:
        """Gives the rows of a metric that carry these labels, in the order of measuring."""
        return [
            row
            for row in self.rows
            if row.metric == metric and labels.items() <= row.labels.items()
        ]


def write_result(result: Result, path: Path) -> None:
    """Writes PATH.json and PATH.csv, each whole or not at all."""
    text = json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n"
    write_file(path.with_name(f"{path.name}.json"), text.encode())
    write_file(path.with_name(f"{path.name}.csv"), table_text(result).encode())


def table_text(result: Result) -> str:
    """Gives the CSV: one line a row, every label a column, "not available" where nothing is."""
    names = label_names(result.rows)
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow([*names, "metric", "unit", "n", "median", "quartile1", "quartile3", "note"])
    for row in result.rows:
        labels = [row.labels.get(name, "") for name in names]
        writer.writerow([*labels, row.metric, row.unit, *_middle(row), row.note])
    return content.getvalue()


def label_names(rows: Sequence[Row]) -> list[str]:
    """Gives the names of all labels, in the order of their first use."""
    return list(dict.fromkeys(name for row in rows for name in row.labels))


def _middle(row: Row) -> list[object]:
    if not row.samples:
        return [0, NOT_AVAILABLE, NOT_AVAILABLE, NOT_AVAILABLE]
    middle = spread(row.samples)
    return [middle.count, middle.median, middle.first, middle.third]


def read_result(path: Path) -> Result:
    """Reads a result file.

    Raises:
        InputError: when it isn't one of this format.
    """
    try:
        fields = Fields(parse_json(path.read_bytes()), "result")
        result = _read(fields)
        fields.done()
    except FieldError as error:
        raise InputError(f"{path}: {error}; expected a JSON file of results/") from error
    return result


def _read(fields: Fields) -> Result:
    fields.integer("format", least=FORMAT, most=FORMAT)
    return Result(
        subcommand=fields.text("subcommand"),
        started=fields.text("started"),
        partial=fields.flag("partial"),
        machine=_texts(fields.inner("machine")),
        versions=_texts(fields.inner("versions")),
        commit=fields.text("commit"),
        settings=_texts(fields.inner("settings")),
        rows=list(fields.each("rows", _read_row, most=_MOST)),
        failures=list(fields.each("failures", _read_failure, most=_MOST)),
    )


def _read_row(fields: Fields) -> Row:
    for derived in ("n", "median", "quartiles"):
        if fields.has(derived):
            fields.take(derived)
    samples, at_s = fields.numbers("samples"), fields.numbers("at_s")
    if at_s and len(at_s) != len(samples):
        raise FieldError(f"{fields.where}: {len(samples)} samples, but {len(at_s)} moments")
    return Row(
        labels=_texts(fields.inner("labels")),
        metric=fields.text("metric"),
        unit=fields.text("unit"),
        samples=samples,
        note=fields.text("note"),
        at_s=at_s,
    )


def _read_failure(fields: Fields) -> Failure:
    return Failure(fields.text("case"), fields.text("reason", longest=_MOST))


def _texts(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.names()}
