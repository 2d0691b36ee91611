"""tools/bundle.py and its subcommands, in process."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests import folders
from tools.commands.bundle import main
from tools.model_folder import ModelFolder


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with keys as `keygen` makes them."""
    folder = tmp_path / "keys"
    assert main(["keygen", "model", str(folder / "m.key")]) == 0
    assert main(["keygen", "owner", str(folder / "owner.pem")]) == 0
    capsys.readouterr()
    return folder


def write(folder: ModelFolder, keys: Path, target: Path, *options: str) -> int:
    names = ["--key", str(keys / "m.key"), "--owner-key", str(keys / "owner.pem")]
    return main([str(folder.path), *names, "-o", str(target), *options])


def verify(target: Path, keys: Path, *options: str) -> int:
    names = ["--key", str(keys / "m.key"), "--owner-public-key", str(keys / "owner.pub")]
    return main(["verify", str(target), *names, *options])


def test_write_inspect_verify(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "build" / "chain.bundle"
    assert write(chain_folder, keys, target) == 0
    assert main(["inspect", str(target)]) == 0
    shown = capsys.readouterr().out
    assert folders.read_manifest_text(target)["bundle_id"] in shown
    assert "chain version 1" in shown
    assert "not checked" in shown
    assert verify(target, keys) == 0
    assert "signature and every object hold" in capsys.readouterr().out


def test_quiet(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(chain_folder, keys, tmp_path / "b", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_keys_are_private_and_never_overwritten(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folders.files(keys)
    for name in ("m.key", "owner.pem"):
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600
        for kind in ("model", "owner"):
            assert main(["keygen", kind, str(keys / name)]) == 2
            assert "never overwritten" in capsys.readouterr().err
    assert folders.files(keys) == before


def test_no_key_material_is_printed(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(chain_folder, keys, tmp_path / "b")
    verify(tmp_path / "b", keys)
    main(["inspect", str(tmp_path / "b")])
    out, err = capsys.readouterr()
    key = (keys / "m.key").read_bytes()
    assert key.hex() not in out + err
    assert "PRIVATE KEY" not in out + err


def test_altered_bundle_is_refused(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "b"
    write(chain_folder, keys, target)
    path = target / "00003.weights.enc"
    raw = bytearray(path.read_bytes())
    raw[9] ^= 1
    path.write_bytes(raw)
    capsys.readouterr()
    assert verify(target, keys) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "failed its integrity check" in err


def test_older_than_wanted(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(chain_folder, keys, tmp_path / "b")
    assert verify(tmp_path / "b", keys, "--minimum-version", "2") == 1
    assert "version 1 is older than 2" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["m.key", "owner.pem"])
def test_key_that_is_not_there(
    chain_folder: ModelFolder,
    keys: Path,
    tmp_path: Path,
    missing: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (keys / missing).unlink()
    assert write(chain_folder, keys, tmp_path / "b") == 2
    assert str(keys / missing) in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_changed_partition_is_not_encrypted(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folders.copy(chain_folder.path, tmp_path / "chain")
    folders.change_weight(path / "001.onnx")
    options = ["--key", str(keys / "m.key"), "--owner-key", str(keys / "owner.pem")]
    assert main([str(path), *options, "-o", str(tmp_path / "b")]) == 2
    assert "001.onnx: not the file" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_no_model_folder(
    keys: Path, tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--key", str(keys / "m.key"), "--owner-key", str(keys / "owner.pem")]
    assert main([str(tmp_path / folder), *options, "-o", str(tmp_path / "b")]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("content", "status"), [(None, 2), (b"{}", 1), (b"\xff", 1)])
def test_inspect_something_else(
    tmp_path: Path, content: bytes | None, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    assert main(["inspect", str(tmp_path)]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["partitions/x"],
        ["partitions/x", "--key", "k"],
        ["keygen"],
        ["keygen", "model"],
        ["keygen", "other", "f"],
        ["verify", "b"],
        ["inspect"],
        ["partitions/x", "--key", "k", "-o", "b", "--optimization", "none"],
    ],
)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    assert "usage: tools/bundle.py" in capsys.readouterr().err


def test_id_names_the_key_file(
    chain_folder: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts name keys by it, so it is alone on its line, and a broken model has none."""
    assert main(["id", str(chain_folder.path)]) == 0
    assert capsys.readouterr().out == f"{chain_folder.model_id}\n"
    path = folders.copy(chain_folder.path, tmp_path / "m")
    (path / "model.json").unlink()
    assert main(["id", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "it says what clients may know of the model" in err
