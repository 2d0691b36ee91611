"""tools/bundle.py and its subcommands, in process."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.release import read_time
from tests import folders
from tests.vectors.generate import VECTORS
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


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints on its one line."""
    capsys.readouterr()
    assert main([*words]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    return out.strip()


@pytest.mark.parametrize(
    ("options", "released", "expires"),
    [
        (["--released", "2026-01-02T03:04:05Z"], "2026-01-02T03:04:05Z", None),
        (["--released", "2026-01-02"], "2026-01-02T00:00:00Z", None),
        (
            ["--released", "2026-01-02", "--expires", "90d"],
            "2026-01-02T00:00:00Z",
            "2026-04-02T00:00:00Z",
        ),
        (
            ["--released", "2026-01-02", "--expires", "2999-01-31"],
            "2026-01-02T00:00:00Z",
            "2999-01-31T00:00:00Z",
        ),
    ],
)
def test_times_are_those_that_were_asked_for(
    chain_folder: ModelFolder, keys: Path, options: list[str], released: str, expires: str | None
) -> None:
    target = keys.parent / "b"
    assert write(chain_folder, keys, target, *options) == 0
    manifest = folders.read_manifest_text(target)
    assert (manifest["released_at"], manifest.get("expires_at")) == (released, expires)


def test_without_options_it_is_from_now_on_and_for_ever(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    write(chain_folder, keys, tmp_path / "b")
    manifest = folders.read_manifest_text(tmp_path / "b")
    assert before <= read_time(manifest["released_at"]) <= datetime.now(UTC)
    assert "expires_at" not in manifest
    assert f"released {manifest['released_at']}, expires never" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--expires", "soon"], "expected 2027-01-31T00:00:00Z or 2027-01-31"),
        (["--expires=-3d"], "expected a number of days as 90d"),
        (["--expires", "3.5d"], "expected a number of days as 90d"),
        (["--expires", "9999999d"], "expected a number of days as 90d"),
        (["--expires", "2027-02-30"], "expected 2027-01-31T00:00:00Z or 2027-01-31"),
        (["--released", "90d"], "expected 2027-01-31T00:00:00Z or 2027-01-31"),
        (["--released", "2027-01-31T00:00:00+01:00"], "expected 2027-01-31T00:00:00Z"),
        (["--key-id", "../k"], "expected at most 64 of a-z"),
        (["--expires", "2020-01-01"], "would expire at 2020-01-01T00:00:00Z, before it is"),
        (["--expires", "0d", "--released", "2020-01-01"], "would expire at 2020-01-01"),
        (["--expires", "999999d", "--released", "9000-01-01"], "no calendar has that day"),
    ],
)
def test_times_and_names_that_can_not_be(
    chain_folder: ModelFolder,
    keys: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = keys.parent / "b"
    try:
        status = write(chain_folder, keys, target, *options)
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    assert said in capsys.readouterr().err
    assert not target.exists()


def test_ids_stand_alone_on_their_line(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "b"
    write(chain_folder, keys, target, "--key-id", "2026-spring")
    manifest = folders.read_manifest_text(target)
    assert shown(capsys, "id", str(target)) == "chain"
    assert shown(capsys, "id", str(target), "--model") == "chain"
    assert shown(capsys, "id", str(target), "--bundle") == manifest["bundle_id"]
    assert shown(capsys, "id", str(target), "--key") == manifest["key_id"] == "2026-spring"
    assert main(["id", str(chain_folder.path), "--bundle"]) == 2
    assert "isn't a bundle" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["id", str(target), "--bundle", "--key"])


def test_an_expired_bundle_does_not_verify(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(chain_folder, keys, tmp_path / "b", "--released", "2020-01-01", "--expires", "1d")
    assert verify(tmp_path / "b", keys) == 1
    assert "the bundle expired at 2020-01-02T00:00:00Z" in capsys.readouterr().err


def test_a_bundle_under_another_key_does_not_verify(
    chain_folder: ModelFolder, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(chain_folder, keys, tmp_path / "b")
    (keys / "m.key").unlink()
    main(["keygen", "model", str(keys / "m.key")])
    capsys.readouterr()
    assert verify(tmp_path / "b", keys) == 1
    assert "belongs to another key" in capsys.readouterr().err


def test_a_bundle_of_format_1_is_looked_at_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    vector = VECTORS[1]
    assert main(["inspect", str(vector.bundle)]) == 0
    assert ", format 1" in capsys.readouterr().out
    names = ["--key", str(vector.model_key), "--owner-public-key", str(vector.owner)]
    assert main(["verify", str(vector.bundle), *names]) == 0
    assert "appliances refuse it unless they are told otherwise" in capsys.readouterr().out
    assert main(["id", str(vector.bundle), "--key"]) == 2
    assert "format 1 names no key" in capsys.readouterr().err


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
