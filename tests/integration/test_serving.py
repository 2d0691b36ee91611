"""Model to bundle to TLS: what a client gets is what the whole model computes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from app.engine import WholeModel
from app.server.oip.describe import EXTENSIONS
from tests.integration.appliance import DIGITS, ROOT, Appliance, infer_body, prepare, running
from tools.accuracy.ladder import TOLERANCE
from tools.serving_client import ServingClient, Trust


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running(prepare(tmp_path_factory.mktemp("serving"))) as found:
        yield found


def test_the_server_says_what_it_is(appliance: Appliance) -> None:
    said = appliance.curl("/v2").body
    assert (said["name"], said["version"]) == ("cloister", "0.1.0")
    assert said["extensions"] == list(EXTENSIONS)
    assert appliance.curl("/v2/health/ready").status == 200
    metadata = appliance.curl("/v2/models/digits/versions/1").body
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 32, 32]}]


@pytest.mark.parametrize(
    "picture", sorted((DIGITS / "samples").glob("*.png")), ids=lambda p: p.stem
)
def test_every_sample_is_classified_as_labelled(appliance: Appliance, picture: Path) -> None:
    labels = json.loads((DIGITS / "samples" / "labels.json").read_text())
    answer = appliance.curl("/v1/models/digits/classify", "--form", f"image=@{picture}")
    assert answer.status == 200
    assert answer.body["labels"][0]["index"] == labels[picture.name]
    assert [each["index"] for each in answer.body["timing"]["partitions"]] == [0, 1, 2, 3, 4]
    assert answer.body["runtime"] == "process"
    memory = answer.body["memory"]
    assert 0 < memory["peak_bytes"] <= memory["budget_bytes"]


def test_a_raw_picture_gives_the_same_answer_as_a_form(appliance: Appliance) -> None:
    picture = DIGITS / "samples" / "digit-7-1.png"
    form = appliance.curl("/v1/models/digits/classify", "--form", f"image=@{picture}")
    raw = appliance.curl(
        "/v1/models/digits/classify",
        *("--header", "Content-Type: image/png", "--data-binary", f"@{picture}"),
    )
    assert raw.body["labels"] == form.body["labels"]


def test_tensors_through_tls_equal_the_whole_model(appliance: Appliance, tmp_path: Path) -> None:
    inputs = {"image": np.random.default_rng(5).standard_normal((1, 1, 32, 32), dtype=np.float32)}
    body = tmp_path / "body.json"
    body.write_text(infer_body(inputs))
    answer = appliance.curl("/v2/models/digits/infer", "--data-binary", f"@{body}")
    assert answer.status == 200
    assert answer.body["id"] == "test"
    (output,) = answer.body["outputs"]
    actual = np.array(output["data"], dtype=np.float32).reshape(output["shape"])
    expected = WholeModel(DIGITS / "model.onnx", "none").run(inputs)[output["name"]]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_tritonclient_and_our_client_get_what_the_whole_model_computes(
    appliance: Appliance,
) -> None:
    """As bytes, both ways: the same from both, to the last bit."""
    picture = np.random.default_rng(6).standard_normal((1, 1, 32, 32), dtype=np.float32)
    triton = InferenceServerClient(
        appliance.url.removeprefix("https://"),
        ssl=True,
        ssl_options={"ca_certs": str(appliance.certificate)},
    )
    image = InferInput("image", list(picture.shape), "FP32").set_data_from_numpy(picture)
    first = triton.infer("digits", [image]).as_numpy("logits")
    triton.close()
    with ServingClient(appliance.url, Trust(ca_file=appliance.certificate)) as client:
        second = client.infer("digits", {"image": picture}).outputs["logits"]
        assert client.metadata("digits")["versions"] == ["1"]
        assert client.statistics("digits")[0]["inference_count"] >= 2
    expected = WholeModel(DIGITS / "model.onnx", "none").run({"image": picture})["logits"]
    assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(first, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_a_batch_beyond_the_budget_is_refused_and_the_next_request_served(
    appliance: Appliance, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_text(infer_body({"image": np.zeros((64, 1, 32, 32), dtype=np.float32)}))
    refused = appliance.curl("/v2/models/digits/infer", "--data-binary", f"@{body}")
    assert refused.status == 413
    assert "budget" in refused.body["error"]
    body.write_text(infer_body({"image": np.zeros((1, 1, 32, 32), dtype=np.float32)}))
    assert appliance.curl("/v2/models/digits/infer", "--data-binary", f"@{body}").status == 200


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"models": []}, 2, "at least one model"),
        ({"workers": 0, "sgx_mode": "XX"}, 2, "2 problem(s)"),
        ({"production": True}, 2, "refused in production"),
        ({"insecure_key_folder": "/nonexistent"}, 1, "digits.key"),
    ],
)
def test_what_cannot_be_served_does_not_start(
    tmp_path: Path, change: dict[str, Any], status: int, message: str
) -> None:
    config = prepare(tmp_path, **change)
    done = subprocess.run(
        [sys.executable, "-m", "app", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready on" not in done.stdout
