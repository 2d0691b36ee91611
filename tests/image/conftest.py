"""Instances shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.instances import TestInstance, make_instance, make_prefix
from tools.image.sandbox import sandbox_works
from tools.image.signing import ensure_signing_key


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Fails where bubblewrap may not make namespaces: in a chroot, in many containers.

    There a program of the image is a plain process, and writes to the host's own /etc and /bin.
    """
    if not sandbox_works():
        pytest.fail("bubblewrap can't make its namespaces here: nothing of the image can be tested")


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python prefix without packages; not to be changed."""
    return make_prefix(tmp_path_factory.mktemp("prefix"))


@pytest.fixture(scope="session")
def sign_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signing key."""
    path = tmp_path_factory.mktemp("signing") / "enclave.pem"
    assert ensure_signing_key(path)
    return path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, prefix: Path, sign_key: Path) -> TestInstance:
    """A built instance; only to be run, not to be changed."""
    instance = make_instance(tmp_path_factory.mktemp("built") / "image", prefix, sign_key)
    done = instance.build()
    assert done.status == 0, done.err
    return instance


@pytest.fixture
def instance(tmp_path: Path, prefix: Path, sign_key: Path) -> TestInstance:
    """An instance of one's own, not built yet."""
    return make_instance(tmp_path / "image", prefix, sign_key)
