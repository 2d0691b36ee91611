"""A scrape of the running appliance, with onnxruntime computing."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from tests.integration.appliance import Appliance, infer_body, prepare, running
from tests.unit.app.server.test_metrics import Series, is_time, series


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running(prepare(tmp_path_factory.mktemp("scrape"), log_requests=True)) as found:
        yield found


STATES = {"cloister_connections", "cloister_requests_in_progress", "cloister_body_bytes"}
"""What is so at the moment of a scrape; closed connections linger for as long as clients like."""


def scrape(appliance: Appliance) -> Series:
    context = ssl.create_default_context(cafile=str(appliance.certificate))
    with urllib.request.urlopen(f"{appliance.url}/metrics", context=context) as answer:
        return series(answer.read().decode())


def change(appliance: Appliance, pixels: np.ndarray) -> dict[str, float]:
    """What one request changes, beside times."""
    before = scrape(appliance)
    body = infer_body({"image": pixels})
    answer = appliance.curl("/v2/models/digits/infer", "--data-binary", body)
    assert answer.status == 200
    after = scrape(appliance)
    return {
        f"{name}{labels}": value - before.get((name, labels), 0)
        for (name, labels), value in after.items()
        if not is_time(name) and name not in STATES and value != before.get((name, labels), 0)
    }


def test_what_a_picture_shows_changes_no_count(appliance: Appliance) -> None:
    shape = (1, 1, 32, 32)
    noise = np.random.default_rng(7).standard_normal(shape, dtype=np.float32)
    change(appliance, noise)  # the first one decrypts what stays in memory
    pictures = [np.zeros(shape, np.float32), noise, np.full(shape, 1e-42, np.float32), noise * 1e30]
    changes = [change(appliance, pixels) for pixels in pictures]
    assert changes[1:] == changes[:1] * 3
    assert sum("cloister_requests_total" in key for key in changes[0]) == 1


def test_the_audit_is_in_the_metadata_and_in_the_scrape(appliance: Appliance) -> None:
    insecure = ["insecure_key_folder", "insecure_open_access"]
    assert appliance.curl("/v2").body["audit"] == {
        "runtime": "process",
        "simulation": True,
        "measurement": None,
        "production": False,
        "insecure_settings": insecure,
    }
    found = scrape(appliance)
    assert found["cloister_insecure_settings", ()] == len(insecure)
    assert found["cloister_runtime_info", (("measurement", ""), ("runtime", "process"))] == 1
    used = found["cloister_memory_used_bytes", ()]
    assert 0 < used <= found["cloister_memory_budget_bytes", ()]
