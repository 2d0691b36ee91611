from __future__ import annotations

from dataclasses import replace

from app.card import ModelCard
from app.server.oip.config import model_config
from app.server.oip.metadata import model_metadata
from app.server.oip.statistics import model_statistics
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


def test_statistics() -> None:
    counted = Statistics(
        "m",
        3,
        success=Span(5, 500),
        queue=Span(5, 20),
        batches={2: Span(2, 300), 1: Span(1, 100)},
        last_inference_ms=17,
    )
    found = model_statistics(counted)
    assert (found["name"], found["version"], found["last_inference"]) == ("m", "3", 17)
    assert (found["inference_count"], found["execution_count"]) == (5, 3)
    assert found["batch_stats"] == [
        {"batch_size": 1, "compute_infer": {"count": 1, "ns": 100}},
        {"batch_size": 2, "compute_infer": {"count": 2, "ns": 300}},
    ]
    spans = found["inference_stats"]
    assert isinstance(spans, dict)
    assert spans["success"] == {"count": 5, "ns": 500}
    assert spans.keys() == {
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
    }
