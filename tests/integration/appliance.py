"""Starts the appliance as a process of its own and talks to it with curl."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tools.bundling.keys import encode_public_key
from tools.bundling.writer import BundleKeys, write_bundle
from tools.model_folder import ModelFolder, open_folder

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "partitions" / "digits"


@dataclass(frozen=True)
class Answer:
    """What curl got."""

    status: int
    body: Any


@dataclass(frozen=True)
class Appliance:
    """A running appliance."""

    url: str
    certificate: Path

    def curl(self, path: str, *arguments: str) -> Answer:
        """Sends one request over verified TLS; the body is parsed as JSON."""
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--max-time", "30"),
                *("--cacert", str(self.certificate), "--write-out", "\n%{http_code}"),
                *(*arguments, self.url + path),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return Answer(int(status), json.loads(body))


def prepare(place: Path, *, folder: ModelFolder | None = None, **changes: object) -> Path:
    """Writes key, bundle and configuration of a model; gives the configuration's path.

    Args:
        place: where they go.
        folder: the model; None for the sample model.
        changes: fields of the configuration.
    """
    model = folder or open_folder(DIGITS)
    keys = BundleKeys(secrets.token_bytes(32), Ed25519PrivateKey.generate())
    (place / "keys").mkdir()
    (place / "keys" / f"{model.model_id}.key").write_bytes(keys.model_key)
    bundle = place / f"{model.model_id}.bundle"
    write_bundle(model, keys, bundle, progress=lambda _: None)
    owner = encode_public_key(keys.owner.public_key()).decode().strip()
    assert len(base64.b64decode(owner)) == 32
    model_entry = {
        "id": model.model_id,
        "bundle": str(bundle),
        "minimum_version": 1,
        "owner_public_key": owner,
    }
    config: dict[str, object] = {
        "format": 1,
        "sgx_mode": "SIM",
        "production": False,
        "listen": {"host": "127.0.0.1", "port": 0, "names": ["localhost", "127.0.0.1"]},
        "models": [model_entry],
        "insecure_key_folder": str(place / "keys"),
        "budget_bytes": model.plan.budget_bytes,
        "workers": 2,
        "inference_threads": 1,
        "insecure_open_access": True,
    }
    path = place / "config.json"
    path.write_text(json.dumps({**config, **changes}))
    return path


@contextmanager
def running(config: Path, environment: Mapping[str, str] | None = None) -> Iterator[Appliance]:
    """Starts `python -m app`, waits for its own word that it is ready, stops it in the end."""
    command = [sys.executable, "-m", "app", "--config", str(config)]
    variables = {**os.environ, **(environment or {})}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        try:
            yield read_announcement(process, config.parent)
            process.terminate()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def read_announcement(process: subprocess.Popen[str], folder: Path) -> Appliance:
    """Reads certificate and port from what the appliance prints until it is ready."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready on "):
            break
    else:
        raise AssertionError("the appliance stopped before it was ready:\n" + "".join(lines))
    text = "".join(lines)
    end = "-----END CERTIFICATE-----\n"
    pem = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
    certificate = folder / "certificate.pem"
    certificate.write_text(pem)
    return Appliance(f"https://localhost:{lines[-1].split()[-1]}", certificate)


def infer_body(inputs: Mapping[str, Any]) -> str:
    """Gives an Open Inference Protocol request with float32 inputs."""
    tensors = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(array.shape),
            "data": array.reshape(-1).tolist(),
        }
        for name, array in inputs.items()
    ]
    return json.dumps({"id": "test", "inputs": tensors})
