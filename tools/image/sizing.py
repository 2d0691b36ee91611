"""How much memory and how many threads the enclave gets, and why.

Pure: numbers in, numbers with their derivation out. Occlum takes a fixed
amount of each at start; what is too small fails at run time, what is too large
costs start-up time and protected memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.limits import (
    CONNECTION_BYTES,
    MAX_BUFFERED_BYTES,
    MAX_CONNECTIONS,
    MAX_DECODED_BYTES,
    MAX_LOADED_MODELS,
    MIB,
    SMALL_BYTES,
)
from app.schedule import LANES
from tools.image.occlum_sizes import format_size

PYTHON_STACK_BYTES = 200 * MIB
"""Smallest RLIMIT_AS in which the packed python imports numpy, onnxruntime, flask, mbedtls,
cryptography and PIL: 193 MiB, measured with CPython 3.11.7 and onnxruntime 1.31.1."""

ENGINE_BYTES = 48 * MIB
"""onnxruntime's sessions beside weights and tensors: environment, kernels, optimised graphs."""

THREAD_STACK_BYTES = 8 * MIB
"""process.default_stack_size: CPython's own tests of recursion assume this much."""

HEAP_BYTES = 64 * MIB
"""process.default_heap_size: the brk area, set aside at start; malloc continues with mmap."""

SPARE_BYTES = 64 * MIB
"""Fragmentation and what the other lines don't name."""

KERNEL_HEAP_BYTES = 300 * MIB
"""LibOS heap: Occlum's Python demos need 256 to 300 MB for page tables and file caches; it must
also hold a copy of an executable while that is started."""

KERNEL_STACK_BYTES = 1 * MIB
"""LibOS stack per thread, the value of Occlum's template."""

LOOP_THREADS = 4
"""The event loop, one that looks for bundles, and two for libraries that start their own."""

SPARE_THREADS = 12
"""Occlum frees a thread's slot only a little after the thread ends."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a derivation: what, how much, why."""

    name: str
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """The resource limits of one image.

    Attributes:
        user_space_bytes: memory of the app.
        threads: thread slots.
        memory_lines: they add up to user_space_bytes.
        thread_lines: they add up to threads.
    """

    user_space_bytes: int
    threads: int
    memory_lines: tuple[Line, ...]
    thread_lines: tuple[Line, ...]

    def resource_limits(self) -> dict[str, object]:
        """Occlum.json's `resource_limits`."""
        return {
            "kernel_space_heap_size": format_size(KERNEL_HEAP_BYTES),
            "kernel_space_stack_size": format_size(KERNEL_STACK_BYTES),
            "user_space_size": format_size(self.user_space_bytes),
            "max_num_of_threads": self.threads,
        }

    def process(self) -> dict[str, object]:
        """Occlum.json's `process`."""
        return {
            "default_stack_size": format_size(THREAD_STACK_BYTES),
            "default_heap_size": format_size(HEAP_BYTES),
            "default_mmap_size": format_size(self.user_space_bytes),
        }

    def derivation(self) -> dict[str, object]:
        """The lines as they are written beside the sizes, for a reader."""
        return {
            "user_space_bytes": [_as_json(line) for line in self.memory_lines],
            "max_num_of_threads": [_as_json(line) for line in self.thread_lines],
        }


def derive_sizes(
    budget_bytes: int,
    workers: int,
    inference_threads: int,
    bundle_files_bytes: int = 0,
    *,
    models: int = 1,
) -> Sizes:
    """Adds up what the app needs.

    Args:
        budget_bytes: what all models may have together.
        workers: request threads.
        inference_threads: threads of one onnxruntime session.
        bundle_files_bytes: largest file that is mapped rather than read; Occlum reads a mapping in.
        models: bundles that may be loaded; the app loads `MAX_LOADED_MODELS` of them at a time.
    """
    loaders = min(models, MAX_LOADED_MODELS) * (LANES - 1)
    threads = (
        Line("workers", workers, "request threads, each may wait with a request of a batch"),
        Line("inference", inference_threads, "threads of one session"),
        Line("loaders", loaders, "loading weights ahead, for each loaded model"),
        Line("loop", LOOP_THREADS, "event loop, bundle folder, libraries"),
        Line("spare", SPARE_THREADS, "a slot is free only a little after its thread ended"),
    )
    thread_count = sum(line.amount for line in threads)
    memory = (
        Line("python", PYTHON_STACK_BYTES, "interpreter and imports, measured"),
        Line("brk", HEAP_BYTES, "default_heap_size, set aside at start"),
        Line("engine", ENGINE_BYTES, "onnxruntime beside weights and tensors"),
        Line("budget", budget_bytes, "weights, boundary tensors and workspace of the plan"),
        Line("mapped", bundle_files_bytes, "files are read in whole when they are mapped"),
        Line("requests", MAX_BUFFERED_BYTES, "bodies held"),
        Line("connections", MAX_CONNECTIONS * CONNECTION_BYTES, "TLS state and records"),
        Line("decoding", MAX_DECODED_BYTES + workers * SMALL_BYTES, "what bodies are decoded into"),
        Line("stacks", thread_count * THREAD_STACK_BYTES, "threads × default_stack_size"),
        Line("spare", SPARE_BYTES, "fragmentation"),
    )
    return Sizes(
        user_space_bytes=sum(line.amount for line in memory),
        threads=thread_count,
        memory_lines=memory,
        thread_lines=threads,
    )


def _as_json(line: Line) -> dict[str, object]:
    return {"name": line.name, "amount": line.amount, "reason": line.reason}
