"""The protocol typed by hand: curl with JSON, binary data, the raw form and compression."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.integration.protocol import Served, protocol_server
from tests.unit.app.server.oip.bodies import binary
from tests.unit.app.server.routes.requests import INFER, SUMS, picture

HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with protocol_server(tmp_path_factory.mktemp("curl")) as found:
        yield found


def curl(served: Served, path: str, *arguments: str) -> tuple[int, bytes, str]:
    """Gives status, body and the size of the JSON before binary data."""
    show = f"%{{stderr}}%{{http_code}} %header{{{HEADER}}}"
    done = subprocess.run(
        [
            *("curl", "--silent", "--max-time", "20", "--cacert", str(served.certificate)),
            *("--write-out", show, *arguments, f"https://{served.address}{path}"),
        ],
        capture_output=True,
        check=True,
    )
    status, _, size = done.stderr.decode().partition(" ")
    return int(status), done.stdout, size


@pytest.mark.parametrize("arguments", [[], ["--compressed"]])
def test_json(served: Served, arguments: list[str]) -> None:
    status, body, _ = curl(served, SUMS, "--json", json.dumps(INFER), *arguments)
    assert status == 200
    assert json.loads(body)["outputs"][0]["data"] == [11, 12, 13, 14]


@pytest.mark.parametrize("head_given", [True, False])
def test_binary_data(served: Served, tmp_path: Path, head_given: bool) -> None:
    raw, head = binary(parameters={"binary_data_output": True})
    file = tmp_path / "body"
    file.write_bytes(raw)
    header = ["--header", f"{HEADER}: {head}"] if head_given else []
    status, body, size = curl(served, SUMS, "--data-binary", f"@{file}", *header)
    if not head_given:
        assert status == 400
        assert json.loads(body).keys() == {"error"}
        return
    assert status == 200
    assert np.frombuffer(body[int(size) :], "<f4").tolist() == [3, 4, 5, 6.5]


def test_raw_form(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "pixels"
    file.write_bytes(np.ones(4, "<f4").tobytes())
    asked = "--data-binary", f"@{file}", "--header", f"{HEADER}: 0"
    status, body, size = curl(served, "/v2/models/shades/infer", *asked)
    assert status == 200
    assert np.frombuffer(body[int(size) :], "<f4").tolist() == [0, 1]


def test_large_tensors_come_back_as_they_went(served: Served, tmp_path: Path) -> None:
    """Several megabytes of views on their way through TLS."""
    array = np.random.default_rng(1).random((1, 1 << 20), np.float32)
    tensor = {
        "name": "IN",
        "shape": list(array.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    file = tmp_path / "body"
    file.write_bytes(head + array.tobytes())
    asked = "--data-binary", f"@{file}", "--header", f"{HEADER}: {len(head)}"
    status, body, size = curl(served, "/v2/models/echo-fp32/infer", *asked)
    assert status == 200
    assert body[int(size) :] == array.tobytes()


@pytest.mark.parametrize("how", ["form", "raw"])
def test_picture(served: Served, tmp_path: Path, how: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture())
    asked = (
        ["--form", f"image=@{file}"]
        if how == "form"
        else ["--data-binary", f"@{file}", "--header", "Content-Type: image/png"]
    )
    status, body, _ = curl(served, "/v1/models/shades/classify", *asked)
    assert status == 200
    assert json.loads(body)["labels"][0]["label"] == "light"
