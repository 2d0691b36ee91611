"""A plan: the partitions of one model, as it stands in plan.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.cpu import CLASSES
from app.fields import FieldError, Fields, parse_json
from app.manifest import (
    MAX_OBJECT_BYTES,
    MAX_PARTITIONS,
    MAX_RUN_NS,
    MAX_VALUES,
    OPTIMIZATIONS,
)
from app.objects import TAG_BYTES
from app.schedule import lanes
from app.tensors import TensorSpec, read_spec
from tools.errors import ModelError
from tools.supplied import read_supplied

PLAN_FORMAT: Final = 2
PLAN_FILE: Final = "plan.json"
MAX_THREADS: Final = 1024
MAX_LOCK_STEP: Final = 1 << 16
MAX_WHY: Final = 4096
DATA_FILE: Final = re.compile(r"data-\d+\.bin|model\.onnx\.data|\d{3,}\.onnx\.data")
"""Names of the files that hold weights; what somebody else called them is forgotten."""
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Partition:
    """A stretch of nodes in topological order.

    Attributes:
        index: its place in the order of execution.
        start, stop: the nodes [start, stop) of the normalised model.
        first_node, last_node: their names, for people.
        inputs: boundary tensors and model inputs that it reads.
        outputs: tensors that somebody after it needs.
        release: boundary tensors and model inputs that nobody needs after it.
        weights_bytes: size of its weights object.
        input_bytes: its own inputs.
        boundary_bytes: tensors that live across its start.
        activation_bytes: what it allocates while it runs, with the allocator's holes.
        workspace_bytes: the part of that which its kernels take beside tensors, at most.
        fresh_bytes: what it would allocate in a process of its own.
        session_bytes: predicted size of its resident structure.
        run_ns: predicted time of computing; only ratios matter.
        why: why it ends where it does, a sentence for people.
        digest: SHA-256 of its ONNX file, in hex; empty until it is written.
        measured_bytes: what a process grew by that ran it alone; None: wasn't measured.
    """

    index: int
    start: int
    stop: int
    first_node: str
    last_node: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    release: tuple[str, ...]
    weights_bytes: int
    input_bytes: int
    boundary_bytes: int
    activation_bytes: int
    session_bytes: int
    run_ns: int
    workspace_bytes: int = 0
    fresh_bytes: int = 0
    why: str = ""
    digest: str = ""
    measured_bytes: int | None = None

    @property
    def file(self) -> str:
        """Its ONNX file's name. The order comes from the plan, never from names."""
        return f"{self.index:03d}.onnx"

    def to_json(self) -> dict[str, object]:
        """Gives the form that `read_plan` reads."""
        return {
            "index": self.index,
            "file": self.file,
            "sha256": self.digest,
            "nodes": [self.start, self.stop],
            "first_node": self.first_node,
            "last_node": self.last_node,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "release": list(self.release),
            "weights_bytes": self.weights_bytes,
            "input_bytes": self.input_bytes,
            "boundary_bytes": self.boundary_bytes,
            "activation_bytes": self.activation_bytes,
            "workspace_bytes": self.workspace_bytes,
            "fresh_bytes": self.fresh_bytes,
            "session_bytes": self.session_bytes,
            "run_ns": self.run_ns,
            "why": self.why,
            "measured_bytes": self.measured_bytes,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is partitioned.

    Attributes:
        model_digest: SHA-256 of the whole model's file, in hex; "" before it is known.
        data_digests: the same of the files that hold its weights and the partitions', by name.
        optimization: what onnxruntime rewrote before the cuts: a key of `OPTIMIZATIONS`.
        cpu: the class of CPU that those rewrites are for, of `app.cpu.CLASSES`.
        tile_bytes: operators with more weights were tiled before the cuts; None: none were.
        row_bytes: room for tensors that regions were tiled by rows for; None: none were.
        budget_bytes: what the plan was made for.
        peak_bytes: predicted peak over the whole run.
        request_ns: predicted time of a batch; only ratios matter.
        chunk_bytes: plaintext bytes of an encrypted chunk.
        threads: that a run was planned for.
        overlap: whether weights load while a partition runs.
        lock_step: requests of one batch.
        dimensions: sizes that symbolic dimensions were planned with.
        inputs, outputs: the whole model's tensors.
        partitions: in the order of execution.
        measured_bytes: what a process grew by that ran them all; None: wasn't measured.
    """

    model_digest: str
    data_digests: tuple[tuple[str, str], ...]
    optimization: str
    cpu: str
    tile_bytes: int | None
    row_bytes: int | None
    budget_bytes: int
    peak_bytes: int
    request_ns: int
    chunk_bytes: int
    threads: int
    overlap: bool
    lock_step: int
    dimensions: tuple[tuple[str, int], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    partitions: tuple[Partition, ...]
    measured_bytes: int | None = None

    @property
    def scratch_bytes(self) -> int:
        """The reader's own memory: a chunk and its tag for every thread that loads weights."""
        loading = lanes(each.weights_bytes for each in self.partitions)
        return loading * (self.chunk_bytes + TAG_BYTES)

    def to_text(self) -> str:
        """Gives plan.json's text: the same plan is always the same bytes."""
        content = {
            "format": PLAN_FORMAT,
            "model": {
                "file": "model.onnx",
                "sha256": self.model_digest,
                "data": [{"file": name, "sha256": sha} for name, sha in self.data_digests],
            },
            "optimization": self.optimization,
            "cpu": self.cpu,
            "tile_bytes": self.tile_bytes,
            "row_bytes": self.row_bytes,
            "budget_bytes": self.budget_bytes,
            "peak_bytes": self.peak_bytes,
            "request_ns": self.request_ns,
            "measured_bytes": self.measured_bytes,
            "chunk_bytes": self.chunk_bytes,
            "threads": self.threads,
            "overlap": self.overlap,
            "lock_step": self.lock_step,
            "dimensions": dict(self.dimensions),
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "partitions": [partition.to_json() for partition in self.partitions],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_plan(path: Path) -> Plan:
    """Reads and checks a plan.json.

    Raises:
        ModelError: when it is missing, isn't a plan, or its partitions don't follow each other.
    """
    try:
        fields = Fields(parse_json(read_supplied(path.parent, path.name)), "plan")
        plan = _read(fields)
        fields.done()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; 'tools/partition.py' writes it") from error
    except FieldError as error:
        raise ModelError(f"{path}: {error}; 'tools/partition.py' makes it anew") from error
    return plan


def _read(fields: Fields) -> Plan:
    version = fields.integer("format", least=0, most=1 << 31)
    if version != PLAN_FORMAT:
        raise FieldError(
            f"plan.format: another version of these tools wrote format {version}, this one reads "
            f"format {PLAN_FORMAT}"
        )
    model = fields.inner("model")
    model.choice("file", ("model.onnx",))
    digest = _read_digest(model)
    data_digests = model.each("data", _read_data, most=MAX_VALUES)
    model.done()
    plan = Plan(
        model_digest=digest,
        data_digests=data_digests,
        optimization=fields.choice("optimization", OPTIMIZATIONS),
        cpu=fields.choice("cpu", CLASSES),
        tile_bytes=_read_size(fields, "tile_bytes"),
        row_bytes=_read_size(fields, "row_bytes"),
        budget_bytes=fields.integer("budget_bytes", least=1, most=MAX_OBJECT_BYTES),
        peak_bytes=fields.integer("peak_bytes", least=0, most=MAX_OBJECT_BYTES),
        request_ns=fields.integer("request_ns", least=0, most=MAX_RUN_NS),
        measured_bytes=_read_size(fields, "measured_bytes"),
        chunk_bytes=fields.integer("chunk_bytes", least=1, most=MAX_OBJECT_BYTES),
        threads=fields.integer("threads", least=1, most=MAX_THREADS),
        overlap=fields.flag("overlap"),
        lock_step=fields.integer("lock_step", least=1, most=MAX_LOCK_STEP),
        dimensions=_read_dimensions(fields),
        inputs=fields.each("inputs", read_spec, most=MAX_VALUES),
        outputs=fields.each("outputs", read_spec, most=MAX_VALUES),
        partitions=fields.each("partitions", _read_partition, most=MAX_PARTITIONS),
    )
    _check_order(plan)
    return plan


def _read_dimensions(fields: Fields) -> tuple[tuple[str, int], ...]:
    inner = fields.inner("dimensions")
    names = sorted(inner.names())
    found = tuple((name, inner.integer(name, least=1, most=1 << 31)) for name in names)
    inner.done()
    return found


def _read_size(fields: Fields, name: str) -> int | None:
    if fields.take_null(name):
        return None
    return fields.integer(name, least=1, most=MAX_OBJECT_BYTES)


def _read_data(fields: Fields) -> tuple[str, str]:
    name = fields.text("file")
    if not DATA_FILE.fullmatch(name):
        raise fields.wrong("file", "a name such as data-0.bin", name)
    return name, _read_digest(fields)


def _read_digest(fields: Fields) -> str:
    digest = fields.text("sha256", longest=64)
    if not DIGEST.fullmatch(digest):
        raise FieldError(f"{fields.where}.sha256: expected 64 hex digits, got {digest!r}")
    return digest


def _read_partition(fields: Fields) -> Partition:
    index = fields.integer("index", least=0, most=MAX_PARTITIONS)
    nodes = fields.array("nodes", most=2)
    if len(nodes) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) for n in nodes):
        raise FieldError(f"{fields.where}.nodes: expected two whole numbers")
    start, stop = (int(str(node)) for node in nodes)
    partition = Partition(
        index=index,
        start=start,
        stop=stop,
        first_node=fields.text("first_node"),
        last_node=fields.text("last_node"),
        inputs=fields.each("inputs", read_spec, most=MAX_VALUES),
        outputs=fields.each("outputs", read_spec, most=MAX_VALUES),
        release=fields.texts("release", most=MAX_VALUES),
        weights_bytes=fields.integer("weights_bytes", least=0, most=MAX_OBJECT_BYTES),
        input_bytes=fields.integer("input_bytes", least=0, most=MAX_OBJECT_BYTES),
        boundary_bytes=fields.integer("boundary_bytes", least=0, most=MAX_OBJECT_BYTES),
        activation_bytes=fields.integer("activation_bytes", least=0, most=MAX_OBJECT_BYTES),
        workspace_bytes=fields.integer("workspace_bytes", least=0, most=MAX_OBJECT_BYTES),
        fresh_bytes=fields.integer("fresh_bytes", least=0, most=MAX_OBJECT_BYTES),
        session_bytes=fields.integer("session_bytes", least=0, most=MAX_OBJECT_BYTES),
        run_ns=fields.integer("run_ns", least=0, most=MAX_RUN_NS),
        why=fields.text("why", longest=MAX_WHY),
        measured_bytes=_read_size(fields, "measured_bytes"),
        digest=_read_digest(fields),
    )
    fields.choice("file", (partition.file,))
    return partition


def _check_order(plan: Plan) -> None:
    if not plan.partitions:
        raise FieldError("plan.partitions: a plan has at least one partition")
    expected = 0
    for place, partition in enumerate(plan.partitions):
        if partition.index != place or partition.start != expected or partition.stop <= expected:
            raise FieldError(
                f"plan.partitions[{place}]: expected index {place} from node {expected} on, got "
                f"index {partition.index} with nodes {partition.start} to {partition.stop}; "
                "the plan was edited or reordered"
            )
        expected = partition.stop
