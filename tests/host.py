"""The appliance, started for real up to the moment where it would listen."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import app.__main__ as appliance
from app.engine import OrtEngine, OrtSession
from app.manifest import PartitionLayout
from app.outlets import Outlets
from tests.folders import KEYS


@dataclass
class Start:
    """What one start of the appliance did.

    Attributes:
        status: the exit status.
        opened: partitions whose graphs reached onnxruntime.
        listening: whether the listener was made.
        said: what was printed on stderr.
        announced: what was printed on stdout.
    """

    status: int = -1
    opened: list[PartitionLayout] = field(default_factory=list)
    listening: bool = False
    said: str = ""
    announced: str = ""

    @property
    def loaded_nothing(self) -> bool:
        """Whether neither onnxruntime nor the network saw anything."""
        return not self.opened and not self.listening


@dataclass
class Host:
    """Starts the appliance with a bundle; it may do with files what it likes."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def start(
        self,
        bundle: Path,
        *,
        owner: Ed25519PublicKey | None = None,
        model_key: bytes | None = KEYS.model_key,
        minimum_version: int = 1,
        model_id: str = "chain",
        change: Mapping[str, object] | None = None,
        **model_change: object,
    ) -> Start:
        """Runs `main` with one bundle; a start that gets as far as listening stops there.

        Args:
            bundle: its folder.
            owner, minimum_version: as configured for it.
            model_key: content of the key's file; None for no file.
            model_id: as configured; it names the key's file too.
            change: replaces fields of the configuration; None takes one out.
            model_change: replaces fields of the model's configuration.
        """
        found = Start()
        self._record(found)
        keys = self.folder / "keys"
        keys.mkdir(exist_ok=True)
        if model_key is not None:
            (keys / f"{model_id}.key").write_bytes(model_key)
        config = self.folder / "config.json"
        model = self.model(bundle, owner=owner, minimum_version=minimum_version, model_id=model_id)
        content = {**_config(keys, {**model, **model_change}), **(change or {})}
        config.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        found.status = appliance.main(["--config", str(config)])
        found.announced, found.said = self.capsys.readouterr()
        return found

    def model(
        self,
        bundle: Path,
        *,
        owner: Ed25519PublicKey | None = None,
        minimum_version: int = 1,
        model_id: str = "chain",
    ) -> dict[str, object]:
        """Gives the configuration of one model."""
        key = owner or KEYS.owner.public_key()
        raw = base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
        return {
            "id": model_id,
            "bundle": str(bundle),
            "minimum_version": minimum_version,
            "owner_public_key": raw,
        }

    def _record(self, found: Start) -> None:
        def open_(engine: OrtEngine, graph: bytes, layout: PartitionLayout) -> OrtSession:
            found.opened.append(layout)
            return original(engine, graph, layout)

        class Listener:
            def __init__(self, *_: object, **__: object) -> None:
                found.listening = True

            def bind(self) -> tuple[str, int]:
                return "127.0.0.1", 1

            def serve_forever(self) -> None:
                return

        original = _ORIGINAL_OPEN
        self.monkeypatch.setattr(OrtEngine, "open", open_)
        self.monkeypatch.setattr(appliance, "ApplianceServer", Listener)
        self.monkeypatch.setattr("signal.signal", lambda *_: None)
        keep_process(self.monkeypatch)


def keep_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves alone what belongs to the process, which is pytest's: log, streams, dumps."""
    monkeypatch.setattr("app.server.logs.set_up", lambda *_: None)
    monkeypatch.setattr(appliance, "take_outlets", lambda: Outlets(sys.stdout, sys.stderr))
    monkeypatch.setattr(appliance, "forbid_dumps", lambda: None)


_ORIGINAL_OPEN = OrtEngine.open


def _config(keys: Path, model: dict[str, object]) -> dict[str, object]:
    return {
        "format": 1,
        "sgx_mode": "SIM",
        "production": False,
        "listen": {"host": "127.0.0.1", "port": 0, "names": ["localhost"]},
        "models": [model],
        "insecure_key_folder": str(keys),
        "budget_bytes": 16 << 20,
        "workers": 1,
        "inference_threads": 1,
        "insecure_open_access": True,
    }
