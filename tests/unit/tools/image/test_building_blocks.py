"""Signing key, measurement, interpreter, patched libc, filter table."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from tests.unit.tools.image.rootfs import make_fixed_position
from tools.errors import ImageBuildError
from tools.image import interpreter
from tools.image.autodep import GLIBC_FOLDER
from tools.image.elf import read_elf
from tools.image.interpreter import base_interpreter, install_interpreter
from tools.image.libc_patch import ANSWER, CALL, patch_libc
from tools.image.measurement import rootfs_digest, simulated_mr_enclave
from tools.image.signing import ensure_signing_key, mr_signer
from tools.image.syscall_filter import TABLE, rules


def test_a_signing_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "enclave.pem"
    assert ensure_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    assert not ensure_signing_key(path)
    assert path.read_bytes() == content
    assert len(mr_signer(path)) == 64


@pytest.mark.parametrize(("exponent", "bits"), [(65537, 3072), (3, 2048)])
def test_a_key_that_sgx_refuses(tmp_path: Path, exponent: int, bits: int) -> None:
    path = tmp_path / "key.pem"
    key = generate_private_key(public_exponent=exponent, key_size=bits)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(ImageBuildError, match="3072 bits with exponent 3"):
        mr_signer(path)


def test_not_a_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("hello")
    with pytest.raises(ImageBuildError, match="isn't a PEM private key"):
        mr_signer(path)


def make_tree(root: Path) -> Path:
    (root / "a").mkdir(parents=True)
    (root / "a" / "f").write_text("content")
    (root / "link").symlink_to("a/f")
    return root


def test_equal_trees_have_equal_measurements(tmp_path: Path) -> None:
    digests = {rootfs_digest(make_tree(tmp_path / name)) for name in ("x", "y")}
    assert len(digests) == 1


def relink(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("a")


def test_any_change_changes_the_measurement(tmp_path: Path) -> None:
    digests = {rootfs_digest(make_tree(tmp_path / "x"))}
    changes: list[Callable[[Path], object]] = [
        lambda root: (root / "a" / "f").write_text("Content"),
        lambda root: (root / "a" / "f").chmod(0o755),
        lambda root: (root / "a" / "f").rename(root / "a" / "g"),
        lambda root: (root / "empty").mkdir(),
        relink,
    ]
    for number, change in enumerate(changes):
        root = make_tree(tmp_path / str(number))
        change(root)
        digests.add(rootfs_digest(root))
    assert len(digests) == len(changes) + 1


def test_configuration_and_mode_are_measured() -> None:
    measured = {
        simulated_mr_enclave(bytes(32), {"a": 1}, "SIM"),
        simulated_mr_enclave(bytes(32), {"a": 2}, "SIM"),
        simulated_mr_enclave(bytes(32), {"a": 1}, "HW"),
        simulated_mr_enclave(bytes([1] * 32), {"a": 1}, "SIM"),
    }
    assert len(measured) == 4


def test_the_installed_interpreter_starts_and_is_position_independent(tmp_path: Path) -> None:
    prefix = tmp_path / "python-occlum"
    install_interpreter(prefix)
    facts = read_elf(prefix / "bin" / "python3")
    assert facts is not None
    assert facts.kind == "ET_DYN"
    if any(name.startswith("libpython") for name in facts.needed):
        assert (facts.old_run_path, facts.run_path) == (("$ORIGIN/../lib",), ())
    done = subprocess.run(
        [prefix / "bin" / "python3", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Python 3.")


def test_another_libpython_on_the_search_path_is_not_taken(tmp_path: Path) -> None:
    prefix = tmp_path / "python-occlum"
    install_interpreter(prefix)
    facts = read_elf(prefix / "bin" / "python3")
    assert facts is not None
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in facts.needed:
        if name.startswith("libpython"):
            (foreign / name).write_bytes(b"not a library")
    done = subprocess.run(
        [prefix / "bin" / "python3", "--version"],
        env={"LD_LIBRARY_PATH": str(foreign)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("Python 3."), done.stderr


@pytest.mark.parametrize(
    "version", [(3, 11, 0, "candidate", 1), (3, 15, 0, "beta", 2), (3, 15, 0, "alpha", 7)]
)
def test_a_pre_release_does_not_enter_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[object, ...]
) -> None:
    monkeypatch.setattr("tools.image.interpreter.sys.version_info", version)
    with pytest.raises(ImageBuildError, match=f"{version[3]} {version[4]} is a pre-release"):
        install_interpreter(tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists()


def fixed_position_base(folder: Path) -> Path:
    (folder / "usr" / "bin").mkdir(parents=True)
    base = folder / "usr" / "bin" / "python3"
    shutil.copy(base_interpreter(), base)
    make_fixed_position(base)
    return base


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1, 1 << 40, 3, 63])
def test_a_damaged_elf_file_is_none(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "damaged"
    content = bytearray(base_interpreter().read_bytes()[:256])
    content[40:48] = offset.to_bytes(8, "little")
    path.write_bytes(content)
    assert read_elf(path) is None


def test_without_a_compiler_the_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(interpreter, "_copy_libpython", lambda *_: tmp_path / "libpython.so")
    with pytest.raises(ImageBuildError, match="install gcc"):
        install_interpreter(tmp_path / "prefix", fixed_position_base(tmp_path))


def test_without_libpython_the_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "_copy_libpython", lambda *_: None)
    monkeypatch.setattr(interpreter, "library_folders", lambda _base: [])
    with pytest.raises(ImageBuildError, match="libpython3"):
        install_interpreter(tmp_path / "prefix", fixed_position_base(tmp_path))


def test_an_interpreter_that_is_a_script(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\n")
    with pytest.raises(ImageBuildError, match="isn't an ELF executable"):
        install_interpreter(tmp_path / "prefix", tmp_path / "python3")


def libc_of(root: Path, content: bytes) -> Path:
    path = root / GLIBC_FOLDER.lstrip("/") / "libc.so.6"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_one_call_of_clone3_is_replaced(tmp_path: Path) -> None:
    path = libc_of(tmp_path, b"before" + CALL + b"after")
    assert patch_libc(tmp_path) is None
    assert path.read_bytes() == b"before" + ANSWER + b"after"


def test_a_libc_with_several_calls_is_left_alone(tmp_path: Path) -> None:
    path = libc_of(tmp_path, CALL + CALL)
    assert "several places" in str(patch_libc(tmp_path))
    assert path.read_bytes() == CALL + CALL


def test_every_call_of_occlums_table_has_a_rule() -> None:
    table = json.loads(TABLE.read_text())
    named = {rule.name for rule in rules()}
    assert named == set(table["supported"]) | set(table["unsupported_enosys"])
    assert not named & set(table["absent_einval"])
    plain = {rule.name for rule in rules() if rule.answer == errno.ENOSYS and not rule.conditions}
    assert plain == set(table["unsupported_enosys"])
