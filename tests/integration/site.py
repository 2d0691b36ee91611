"""What the host keeps for an appliance that is killed and started again, and its clients."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from onnx import numpy_helper

from app.engine import WholeModel
from tests import folders, models, policies
from tests.folders import KEYS
from tests.integration.appliance import ROOT, Appliance, infer_body, read_announcement
from tests.served import ALL_RIGHTS
from tools.access_policy import render_policy
from tools.files import file_digest
from tools.model_folder import ModelFolder

WATCHDOG_S = 60
CERTIFICATE = "certificate.pem"
"""What `read_announcement` keeps beside the configuration."""


@dataclass(frozen=True)
class Site:
    """Folders of the host, and what the right answers are.

    Attributes:
        folder: configuration, policy, keys, bundles, and a folder for passing files.
        port: the same at every start.
        token: may do everything.
        models: two of one name, whose answers differ.
        body: a request that both understand.
        expected: each model's answer.
    """

    folder: Path
    port: int
    token: str
    models: tuple[ModelFolder, ...]
    body: str
    expected: tuple[list[float], ...]

    @property
    def bundles(self) -> Path:
        """The bundle folder."""
        return self.folder / "bundles"

    def model(self, version: int) -> ModelFolder:
        """Odd versions are of the first model."""
        return self.models[(version + 1) % 2]

    def offer(self, version: int) -> None:
        """Puts a version into the bundle folder."""
        target = self.bundles / f"{version}.bundle"
        folders.make_bundle(self.model(version), target, version=version)

    def check(self, answer: dict[str, Any]) -> int:
        """Gives the version that answered; the answer has to be right for it."""
        version = int(answer["model_version"])
        (output,) = answer["outputs"]
        expected = self.expected[(version + 1) % 2]
        np.testing.assert_allclose(output["data"], expected, rtol=1e-4, atol=1e-5)
        return version

    def state(self) -> dict[str, str]:
        """Digest of every file, but for the certificate that the tests keep."""
        return {
            str(path.relative_to(self.folder)): file_digest(path)
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != CERTIFICATE
        }

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        """Starts the appliance; it is killed in the end, if it wasn't before."""
        with subprocess.Popen(
            [sys.executable, "-m", "app", "--config", str(self.folder / "config.json")],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.folder / "passing")},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def serving(self) -> Iterator[tuple[subprocess.Popen[str], Appliance]]:
        """Starts the appliance and waits until it is ready."""
        with self.started() as process:
            yield process, read_announcement(process, self.folder)

    def serves(self) -> int:
        """Starts it once more; gives the version that answered rightly."""
        with self.serving() as (_, appliance), connected(appliance) as connection:
            return self.check(self.ask(connection))

    def ask(self, connection: http.client.HTTPSConnection, path: str = "") -> dict[str, Any]:
        """Sends an infer request, or one without tensors to another path."""
        body = "{}" if path else self.body
        headers = {"Authorization": f"Bearer {self.token}"}
        connection.request("POST", path or "/v2/models/chain/infer", body, headers)
        answer = connection.getresponse()
        raw = answer.read()
        assert answer.status == 200, raw
        found: dict[str, Any] = json.loads(raw)
        return found

    @property
    def load(self) -> str:
        """Path of the request that switches to the newest version."""
        return "/v2/repository/models/chain/load"


@contextmanager
def connected(appliance: Appliance) -> Iterator[http.client.HTTPSConnection]:
    """A verified connection to an appliance."""
    port = int(appliance.url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=str(appliance.certificate))
    with closing(
        http.client.HTTPSConnection("localhost", port, timeout=WATCHDOG_S, context=context)
    ) as connection:
        yield connection


class Clients:
    """Threads that ask until the appliance is gone.

    Attributes:
        answered: one permit for every answer; all of them were right.
        failures: what else came than the end of a connection.
    """

    def __init__(self, site: Site, appliance: Appliance, count: int) -> None:
        self.answered = threading.Semaphore(0)
        self.failures: list[Exception] = []
        self._site = site
        self._appliance = appliance
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(WATCHDOG_S)
            assert not thread.is_alive()

    def wait_for(self, answers: int) -> None:
        """Returns when so many more answers have come."""
        for _ in range(answers):
            assert self.answered.acquire(timeout=WATCHDOG_S), self.failures

    def _run(self) -> None:
        try:
            with connected(self._appliance) as connection:
                while True:
                    self._site.check(self._site.ask(connection))
                    self.answered.release()
        except (OSError, http.client.HTTPException):
            return  # the end of the appliance
        except Exception as error:
            self.failures.append(error)


def make_site(folder: Path, port: int) -> Site:
    """Makes everything but bundles.

    Args:
        folder: empty.
        port: free.
    """
    for name in ("bundles", "keys", "passing"):
        (folder / name).mkdir()
    (folder / "keys" / "chain.key").write_bytes(KEYS.model_key)
    tenant, token = policies.tenant("operator", rights=ALL_RIGHTS)
    (folder / "access.json").write_bytes(render_policy(policies.policy(tenant)))
    (folder / "config.json").write_text(json.dumps(_config(folder, port)))
    source = models.chain()
    inputs = models.inputs_for(source)
    made = []
    for factor in (1.0, 0.5):
        scaled = _scaled(source, factor)
        made.append(folders.make_folder(scaled, folder / f"by-{factor}" / "chain", count=2))
    whole = [WholeModel(model.model_path, "none").run(inputs) for model in made]
    expected = tuple(found["y"].reshape(-1).tolist() for found in whole)
    assert not np.allclose(expected[0], expected[1])
    return Site(folder, port, token, tuple(made), infer_body(inputs), expected)


def _config(folder: Path, port: int) -> dict[str, object]:
    raw = KEYS.owner.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    owner = base64.b64encode(raw).decode()
    return {
        "format": 1,
        "sgx_mode": "SIM",
        "production": False,
        "listen": {"host": "127.0.0.1", "port": port, "names": ["localhost"]},
        "models": [{"id": "chain", "minimum_version": 1, "owner_public_key": owner}],
        "bundle_folder": str(folder / "bundles"),
        "insecure_key_folder": str(folder / "keys"),
        "budget_bytes": 16 << 20,
        "workers": 2,
        "inference_threads": 1,
        "access_policy": str(folder / "access.json"),
    }


def _scaled(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The same model with other weights."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for weight in changed.graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(array * np.float32(factor), weight.name))
    return changed
