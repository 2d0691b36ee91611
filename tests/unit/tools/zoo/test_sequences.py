from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.engine import WholeModel
from app.tensors import Array
from tests.unit.tools.zoo.small import TINY, opened, tokens
from tools.graph.build import Network
from tools.graph.load import load_model
from tools.graph.summary import summarize
from tools.zoo.sequences import LstmSize, bert, gpt, lstm

IDS = tokens(3, 14, 15, 9, 26)
ONES = np.ones_like(IDS)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> WholeModel:
    return opened(gpt(TINY), tmp_path_factory.mktemp("gpt"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> WholeModel:
    return opened(bert(TINY), tmp_path_factory.mktemp("bert"))


def encode(model: WholeModel, ids: Array, mask: Array) -> Array:
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return model.run(inputs)["last_hidden_state"]


def decode(model: WholeModel, ids: Array, mask: Array) -> Array:
    return model.run({"input_ids": ids, "attention_mask": mask})["logits"]


def test_a_decoder_does_not_see_later_tokens(decoder: WholeModel) -> None:
    changed = IDS.copy()
    changed[0, 3] = 40
    before, after = decode(decoder, IDS, ONES), decode(decoder, changed, ONES)
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 0.1


def test_an_encoder_sees_all_tokens(encoder: WholeModel) -> None:
    changed = IDS.copy()
    changed[0, 4] = 40
    before, after = encode(encoder, IDS, ONES), encode(encoder, changed, ONES)
    assert (np.abs(before - after).max(axis=2) > 1e-3).all()


def test_what_the_mask_hides_changes_nothing(encoder: WholeModel, decoder: WholeModel) -> None:
    longer = np.concatenate([IDS, tokens(7, 8)], axis=1)
    mask = np.concatenate([ONES, tokens(0, 0)], axis=1)
    for run, model in ((encode, encoder), (decode, decoder)):
        expected = run(model, IDS, ONES)
        np.testing.assert_allclose(run(model, longer, mask)[:, :5], expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 17])
def test_batch_and_length_are_free(decoder: WholeModel, batch: int, length: int) -> None:
    ids = np.arange(batch * length, dtype=np.int64).reshape(batch, length) % TINY.vocabulary
    found = decode(decoder, ids, np.ones_like(ids))
    assert found.shape == (batch, length, TINY.vocabulary)
    assert np.isfinite(found).all()


def test_a_mask_that_hides_everything_gives_numbers(
    encoder: WholeModel, decoder: WholeModel
) -> None:
    assert np.isfinite(encode(encoder, IDS, 0 * ONES)).all()
    assert np.isfinite(decode(decoder, IDS, 0 * ONES)).all()


@pytest.mark.parametrize(
    "network", [bert(TINY), gpt(TINY), lstm(LstmSize(50, 16, 2))], ids=lambda n: n.name
)
def test_every_size_follows_from_batch_and_sequence(network: Network, tmp_path: Path) -> None:
    opened(network, tmp_path)
    summary = summarize(load_model(tmp_path / "model.onnx"), {"batch": 2, "sequence": 8})
    assert summary.unsized() == ()
    symbols = {d for s in summary.values.values() for d in s.shape or () if isinstance(d, str)}
    assert symbols == {"batch", "sequence"}


def test_a_recurrent_network_remembers(tmp_path: Path) -> None:
    model = opened(lstm(LstmSize(50, 16, 2)), tmp_path)
    ids = IDS.T
    changed = ids.copy()
    changed[0] = 40
    before, after = (model.run({"input_ids": each})["logits"] for each in (ids, changed))
    assert (np.abs(before - after).max(axis=2) > 1e-3).all()
