"""Bundles on disk, whose folder the host may change as it likes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.config import Config, ModelConfig
from app.engine import WholeModel
from app.errors import BundleIntegrityError, InputError
from app.keys import FolderKeySource
from app.limits import MAX_BUNDLES
from app.serving.catalogue import Catalogue
from app.serving.models import ServedModel
from app.serving.repository import find_bundles
from app.serving.residence import Residence
from tests import folders, models
from tests.folders import KEYS, OTHER_KEYS
from tools.model_folder import ModelFolder

OWNER = KEYS.owner.public_key()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return folders.make_folder(
        models.chain(), tmp_path_factory.mktemp("repository") / "chain", count=4
    )


def wanted(bundle: Path | None = None, **change: Any) -> ModelConfig:
    return replace(ModelConfig("chain", bundle, 1, OWNER), **change)


def config(folder: Path, *entries: ModelConfig, **change: Any) -> Config:
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    (keys / "chain.key").write_bytes(KEYS.model_key)
    found = Config(
        sgx_mode="SIM",
        production=False,
        host="",
        port=0,
        names=(),
        models=entries or (wanted(),),
        key_folder=keys,
        insecure_keys=True,
        budget_bytes=1 << 24,
        workers=4,
        inference_threads=1,
        tls=None,
        bundle_folder=folder,
    )
    return replace(found, **change)


def found(wish: Config) -> tuple[list[tuple[str, int]], list[str]]:
    scan = find_bundles(wish, FolderKeySource(wish.key_folder))
    bundles = [(each.identity.model_id, each.identity.model_version) for each in scan.bundles]
    assert all(isinstance(error, BundleIntegrityError) for _, error in scan.refused)
    return bundles, [name for name, _ in scan.refused]


def catalogue(wish: Config) -> Catalogue:
    keys = FolderKeySource(wish.key_folder)
    made = Catalogue(lambda: find_bundles(wish, keys), Residence(wish.budget_bytes))
    made.start()
    return made


def ask(model: ServedModel) -> bytes:
    inputs = models.inputs_for(models.chain(), 1, 0)
    outputs = model.infer(inputs, tenant="t").outputs
    return b"".join(outputs[name].tobytes() for name in sorted(outputs))


def test_versions_of_a_folder_are_served_and_a_new_one_on_request(
    chain: ModelFolder, tmp_path: Path
) -> None:
    folders.make_bundle(chain, tmp_path / "a.bundle", version=3)
    served = catalogue(config(tmp_path))
    before = ask(served.find("chain"))
    folders.make_bundle(chain, tmp_path / "b.bundle", version=4)
    served.load("chain")
    model = served.find("chain")
    assert model.version == 4
    assert ask(model) == before, "the same weights, encrypted under another key"
    served.close()


def test_a_model_of_strings_answers(tmp_path: Path) -> None:
    model = models.MODELS["text"]()
    folder = folders.make_folder(model, tmp_path / "chain", count=2)
    folders.make_bundle(folder, tmp_path / "a.bundle", version=1)
    served = catalogue(config(tmp_path))
    inputs = models.inputs_for(model, 2, 0)
    outputs = served.find("chain").infer(inputs, tenant="t").outputs
    expected = WholeModel(folder.model_path, "none").run(inputs)
    assert outputs["loud"].tolist() == expected["loud"].tolist()
    assert outputs["y"].tobytes() == expected["y"].tobytes()
    with pytest.raises(InputError, match="expected string, got float32"):
        served.find("chain").infer({"words": np.zeros((1, 40), np.float32)}, tenant="t")
    served.close()


def test_a_new_version_with_one_flipped_bit_leaves_the_old_one(
    chain: ModelFolder, tmp_path: Path
) -> None:
    folders.make_bundle(chain, tmp_path / "a.bundle", version=3)
    served = catalogue(config(tmp_path))
    before = ask(served.find("chain"))
    bundle = folders.make_bundle(chain, tmp_path / "b.bundle", version=4)
    weights = bundle / "00003.weights.enc"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(BundleIntegrityError):
        served.load("chain")
    assert served.find("chain").version == 3
    assert ask(served.find("chain")) == before
    served.close()
    again = catalogue(config(tmp_path))
    assert again.find("chain").version == 3, "after a restart as well"
    again.close()


def test_what_the_host_puts_there_is_refused(chain: ModelFolder, tmp_path: Path) -> None:
    folders.make_bundle(chain, tmp_path / "good.bundle", version=3)
    folders.make_bundle(chain, tmp_path / "old.bundle", version=2)
    folders.make_bundle(chain, tmp_path / "foreign.bundle", version=9, keys=OTHER_KEYS)
    (tmp_path / "empty.bundle").mkdir()
    (tmp_path / "file.bundle").write_bytes(b"x")
    (tmp_path / "link.bundle").symlink_to("/nowhere")
    folders.make_bundle(chain, tmp_path / "copying.tmp", version=5)
    bundles, refused = found(config(tmp_path, wanted(minimum_version=3)))
    assert bundles == [("chain", 3)]
    assert refused == [
        "empty.bundle",
        "file.bundle",
        "foreign.bundle",
        "link.bundle",
        "old.bundle",
    ]


def test_an_owner_s_bundle_of_another_owner_s_model_is_refused(
    chain: ModelFolder, tmp_path: Path
) -> None:
    """Both owners are configured; each signs for its own model only."""
    other: Ed25519PublicKey = OTHER_KEYS.owner.public_key()
    folders.make_bundle(chain, tmp_path / "a.bundle", version=3, keys=OTHER_KEYS)
    entries = (wanted(), wanted(model_id="mine", owner=other))
    assert found(config(tmp_path, *entries)) == ([], ["a.bundle"])


def test_a_configured_bundle_and_the_folder_together(chain: ModelFolder, tmp_path: Path) -> None:
    inside = folders.make_bundle(chain, tmp_path / "image" / "chain.bundle", version=3)
    host = tmp_path / "host"
    host.mkdir()
    folders.make_bundle(chain, host / "new.bundle", version=4)
    bundles, refused = found(config(host, wanted(inside)))
    assert (sorted(bundles), refused) == ([("chain", 3), ("chain", 4)], [])
    (inside / "manifest.sig").write_bytes(bytes(64))
    assert found(config(host, wanted(inside))) == ([("chain", 4)], ["chain"])


def test_no_more_bundles_are_looked_at_than_allowed(tmp_path: Path) -> None:
    for number in range(MAX_BUNDLES + 10):
        (tmp_path / f"{number}.bundle").mkdir()
    assert len(found(config(tmp_path))[1]) == MAX_BUNDLES


@pytest.mark.parametrize("tensor_batch", [False, True])
def test_a_tight_budget_streams_and_gives_the_same(
    chain: ModelFolder, tmp_path: Path, tensor_batch: bool
) -> None:
    folders.make_bundle(chain, tmp_path / "a.bundle")
    plenty = catalogue(config(tmp_path))
    model = plenty.find("chain")
    assert model.verified is not None
    needs = model.verified.needs
    least = needs.least_bytes
    expected = ask(model)
    plenty.close()
    for budget_bytes in (least, least + 10_000, needs.most_bytes):
        wish = config(tmp_path, wanted(tensor_batch=tensor_batch), budget_bytes=budget_bytes)
        served = catalogue(wish)
        assert ask(served.find("chain")) == expected
        assert served.residence.used_bytes <= budget_bytes
        served.close()
