from __future__ import annotations

from dataclasses import replace

from app.card import ModelCard
from app.server.oip.describe import model_config, model_metadata, model_statistics
from app.serving.statistics import Span, Statistics
from tests.fakes import TENSOR_CARD, spec

CARD: ModelCard = replace(TENSOR_CARD, outputs=(spec("y", "batch", dtype="string"),))


def test_metadata() -> None:
    assert model_metadata("m", ["3"], CARD, "ab" * 32) == {
        "name": "m",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "properties": {"bundle_id": "ab" * 32},
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "count", "datatype": "INT64", "shape": [1]},
        ],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}],
    }


def test_configuration() -> None:
    found = model_config("m", CARD)
    assert found["name"] == "m"
    assert found["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]},
        {"name": "count", "data_type": "TYPE_INT64", "dims": [1]},
    ]
    assert found["output"] == [{"name": "y", "data_type": "TYPE_STRING", "dims": [-1]}]


def test_statistics_are_as_coarse_as_metrics() -> None:
    counted = Statistics(
        "m",
        3,
        success=Span(5, 7_654_321),
        queue=Span(5, 999_999),
        batches={2: Span(2, 3_000_001), 1: Span(1, 1_999_999)},
        last_inference_ms=17_999,
    )
    found = model_statistics(counted)
    assert (found["name"], found["version"], found["last_inference"]) == ("m", "3", 17_000)
    assert (found["inference_count"], found["execution_count"]) == (5, 3)
    assert found["batch_stats"] == [
        {"batch_size": 1, "compute_infer": {"count": 1, "ns": 1_000_000}},
        {"batch_size": 2, "compute_infer": {"count": 2, "ns": 3_000_000}},
    ]
    spans = found["inference_stats"]
    assert isinstance(spans, dict)
    assert spans["success"] == {"count": 5, "ns": 7_000_000}
    assert spans["queue"] == {"count": 5, "ns": 0}, "no part of a millisecond is told"
    assert spans.keys() == {
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
    }
