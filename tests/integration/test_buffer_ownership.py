"""No answer ever holds another request's bytes, whatever an output shares its memory with.

A model gives back its inputs as they are, weights as they are, one value twice, and results that
kernels make, of every element type. Many clients ask it at a time, each with numbers of its own.
The C library overwrites what is freed (`MALLOC_PERTURB_`), so an array that outlives its memory
shows other bytes even where nobody else took the memory yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from app.server.oip.datatypes import DATATYPES
from app.tensors import BFLOAT16, Array, numpy_dtype, widened
from tests import folders
from tests.graph import WIDTH, Graph
from tests.integration.appliance import Appliance, prepare, running
from tools.serving_client import ServingClient, Trust
from tools.serving_client.requests import Options

CLIENTS: Final = 16
REQUESTS: Final = 12
WORDS: Final = [f"word {number}" for number in range(50)]
_DTYPES: Final = {datatype: dtype for dtype, datatype in DATATYPES.items()}
TABLE: Final = np.arange(50 * 64, dtype=np.float32).reshape(50, 64)


def all_types(*, strings: bool) -> onnx.ModelProto:
    """Two layers beside values of every element type; strings make onnxruntime run on arrays."""
    graph = Graph()
    graph.layer(graph.layer(graph.input("x", ["batch", WIDTH])), out="y")
    graph.output("y", ["batch", WIDTH])
    graph.output("x", ["batch", WIDTH])
    weight = graph.constant(TABLE, "table")
    graph.output("table", [50, 64])
    for dtype in _types(strings=strings):
        element_type = helper.np_dtype_to_tensor_dtype(_onnx_dtype(dtype))
        graph.input(dtype, ["rows", 3], element_type)
        graph.node("Identity", dtype, out=f"{dtype}_copy")
        for name in (dtype, f"{dtype}_copy", f"{dtype}_copy"):
            graph.output(name, ["rows", 3], element_type)
    if strings:
        ids = graph.node(
            "LabelEncoder",
            "string",
            domain="ai.onnx.ml",
            keys_strings=WORDS,
            values_int64s=list(range(len(WORDS))),
        )
        graph.node("Gather", weight, ids, out="rows_of_words")
        graph.output("rows_of_words", ["rows", 3, 64])
    model = graph.model()
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return model


def _types(*, strings: bool) -> list[str]:
    """Element types; onnxruntime gives arrays where there are strings, and none of bfloat16."""
    return [name for name in DATATYPES if name != ("bfloat16" if strings else "string")]


def _onnx_dtype(dtype: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(numpy_dtype(dtype))


@pytest.fixture(scope="module", params=["numbers", "strings"])
def appliance(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Appliance]:
    """Serves the model in three partitions, several workers computing."""
    place = tmp_path_factory.mktemp("ownership")
    model = all_types(strings=request.param == "strings")
    folder = folders.make_folder(model, place / "all", count=3)
    config = prepare(place, folder=folder, workers=4, budget_bytes=64 << 20)
    with running(config, environment={"MALLOC_PERTURB_": "165"}) as started:
        yield started


def test_answers_hold_nothing_of_other_requests(appliance: Appliance) -> None:
    """16 clients with numbers of their own, as bytes and as JSON: every output is the client's."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        wrong = list(chain(*pool.map(partial(_ask, appliance), range(CLIENTS))))
    assert wrong == []


def _ask(appliance: Appliance, client_number: int) -> list[str]:
    """Gives the outputs that held something else than this client's own numbers."""
    random = np.random.default_rng(client_number)
    wrong = []
    with ServingClient(appliance.url, Trust(ca_file=appliance.certificate)) as client:
        specs = client.metadata("all")["inputs"]
        dtypes = {spec["name"]: _DTYPES[spec["datatype"]] for spec in specs}
        for number in range(REQUESTS):
            rows = int(random.integers(1, 40))
            inputs = {
                name: _array(dtype, (rows, WIDTH if name == "x" else 3), random)
                for name, dtype in dtypes.items()
            }
            answer = client.infer("all", inputs, options=Options(binary=number % 2 == 0))
            copies = {f"{name}_copy": inputs[name] for name in dtypes if name != "x"}
            expected = {**inputs, **copies, "table": TABLE}
            if "string" in inputs:
                indices = np.vectorize(WORDS.index)(inputs["string"])
                expected["rows_of_words"] = TABLE[indices]
            assert answer.outputs.keys() == expected.keys() | {"y"}
            wrong += [
                name
                for name, array in expected.items()
                if widened(answer.outputs[name]).tolist() != widened(array).tolist()
            ]
    return wrong


def _array(dtype: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Draws numbers that every element type and JSON hold exactly."""
    numbers = random.integers(0, 2 if dtype == "bool" else 50, shape)
    if dtype == "string":
        return np.array(WORDS, object)[numbers]
    if dtype == "bfloat16":
        return (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)
    return numbers.astype(numpy_dtype(dtype))
