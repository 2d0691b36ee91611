"""Fixtures and settings that all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests import folders, models
from tests.host import Host
from tools.model_folder import ModelFolder

# A job in a shell's background ignores Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples at every run; a time limit would fail on a busy machine.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def chain_folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A chain in four partitions; not to be changed, copy it first."""
    return folders.make_folder(models.chain(), tmp_path_factory.mktemp("models") / "chain", count=4)


@pytest.fixture(scope="session")
def chain_bundle(chain_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain's bundle, version 3; not to be changed, copy it first."""
    target = tmp_path_factory.mktemp("bundles") / "chain.bundle"
    return folders.make_bundle(chain_folder, target, version=3)


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A picture classifier in three partitions; not to be changed, copy it first."""
    return folders.make_classifier(tmp_path_factory.mktemp("models") / "shapes")


@pytest.fixture
def host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Host:
    """The host that starts the appliance; it may do with files what it likes."""
    return Host(tmp_path, monkeypatch, capsys)
