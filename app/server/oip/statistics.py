"""The statistics extension: how many requests, and where their time went."""

from __future__ import annotations

from app.serving.statistics import Span, Statistics


def model_statistics(found: Statistics) -> dict[str, object]:
    """Gives the protocol's form of what one version of a model has done."""
    return {
        "name": found.name,
        "version": str(found.version),
        "last_inference": found.last_inference_ms,
        "inference_count": found.success.count,
        "execution_count": sum(span.count for span in found.batches.values()),
        "inference_stats": {phase: _span(span) for phase, span in found.spans.items()},
        "batch_stats": [
            {"batch_size": size, "compute_infer": _span(span)}
            for size, span in sorted(found.batches.items())
        ],
    }


def _span(span: Span) -> dict[str, int]:
    return {"count": span.count, "ns": span.ns}
