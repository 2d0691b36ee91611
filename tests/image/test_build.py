"""`occlum new`, `build` and `print` of the stand-in, and build.sh's options."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.image.instances import WATCHDOG_S, TestInstance, occlum
from tools.launcher import ROOT

BUILD_SCRIPT = ROOT / "occlum_image" / "build.sh"


def snapshot(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_all_problems_are_listed_and_the_last_build_stays(instance: TestInstance) -> None:
    assert instance.build().status == 0
    before = snapshot(instance.folder / "build")
    (instance.folder / "stage" / "probe").write_text("#!/usr/bin/env python3\n")
    (instance.folder / "stage" / "model.key").write_bytes(bytes(32))
    bom = instance.folder / "bom.yaml"
    bom.write_text(bom.read_text().replace("[stage/probe]", "[stage/probe, stage/model.key]"))
    instance.configure(metadata__debuggable=True, env__untrusted=["HOME"])
    done = instance.build()
    assert done.status == 1
    for reason in (
        "metadata.debuggable must be false",
        "env.untrusted must be empty",
        "/bin/probe: Occlum takes no argument",
        "/bin/model.key is named like a key",
        "/bin/model.key isn't executable",
    ):
        assert reason in done.err
    assert "Traceback" not in done.err
    assert snapshot(instance.folder / "build") == before


def test_occlums_public_key_is_never_used(instance: TestInstance) -> None:
    done = instance.occlum("build")
    assert done.status == 1
    assert "name your own key" in done.err
    assert not (instance.folder / "build").exists()


def test_the_measurement_follows_the_image(instance: TestInstance) -> None:
    assert instance.build().status == 0
    first = instance.occlum("print", "mrenclave")
    assert re.fullmatch(r"[0-9a-f]{64}\n", first.out)
    assert "simulation" in first.err
    signer = instance.occlum("print", "mrsigner").out
    assert instance.build().status == 0
    assert instance.occlum("print", "mrenclave").out == first.out
    probe = instance.folder / "stage" / "probe"
    probe.write_text(probe.read_text() + "\n")
    assert instance.build().status == 0
    assert instance.occlum("print", "mrenclave").out != first.out
    assert instance.occlum("print", "mrsigner").out == signer


@pytest.mark.usefixtures("sandbox")
def test_without_a_bom_the_image_is_packed_as_it_is(instance: TestInstance) -> None:
    assert instance.build().status == 0
    (instance.folder / "bom.yaml").unlink()
    (instance.folder / "image" / "etc" / "note").write_text("by hand")
    assert instance.build().status == 0
    assert instance.probe("print(open('/etc/note').read())").out == "by hand\n"


def test_a_bom_may_include_occlums_base(instance: TestInstance) -> None:
    bom = instance.folder / "bom.yaml"
    bom.write_text("includes: [base.yaml]\n" + bom.read_text())
    done = instance.build()
    assert done.status == 0, done.err
    assert (instance.folder / "image" / "ext2").is_dir()
    bom.write_text(bom.read_text().replace("base.yaml", "java-base.yaml"))
    refused = instance.build()
    assert refused.status == 1
    assert "include 'java-base.yaml' isn't in any of" in refused.err


def test_the_packed_copy_does_not_change_with_the_image(instance: TestInstance) -> None:
    assert instance.build().status == 0
    with (instance.folder / "image" / "bin" / "probe").open("a") as file:
        file.write("print('changed')\n")
    assert instance.probe("print('ran')").out == "ran\n"


def test_new_refuses_what_exists(tmp_path: Path) -> None:
    assert occlum(tmp_path, "new", "one").status == 0
    again = occlum(tmp_path, "new", "one")
    assert (again.status, "exists already" in again.err) == (1, True)
    assert occlum(tmp_path / "one", "init").status == 1


def test_commands_outside_an_instance(tmp_path: Path) -> None:
    for command in (["build", "--sign-key", "x"], ["run", "/bin/app"], ["print", "mrenclave"]):
        done = occlum(tmp_path, *command)
        assert done.status == 1
        assert "isn't an Occlum instance folder" in done.err


def test_an_image_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    assert occlum(tmp_path, "gen-image-key", "key").status == 0
    path = tmp_path / "key"
    assert re.fullmatch(r"[0-9a-f]{2}(-[0-9a-f]{2}){15}", path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    assert occlum(tmp_path, "gen-image-key", "key").status != 0
    assert path.read_bytes() == content


def test_run_help_lists_every_deviation(tmp_path: Path) -> None:
    shown = occlum(tmp_path, "run", "--help").out
    for word in ("clone3", "/proc", "RLIMIT_AS", "OCCLUM_STAND_IN"):
        assert word in shown


def build_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUILD_SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
        check=False,
    )


def test_build_script_explains_itself() -> None:
    shown = build_script("--help")
    assert shown.returncode == 0
    for option in ("--bundle", "--sign-key", "--insecure-key-folder", "--mode", "--port"):
        assert option in shown.stdout
    for option in ("--access-policy", "--insecure-open-access", "--tls-library"):
        assert option in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--port", "0"], ["--mode", "DEBUG"], ["--workers", "x"], ["--budget", "85"], ["--nothing"]],
)
def test_build_script_refuses_wrong_usage(arguments: list[str]) -> None:
    assert build_script(*arguments).returncode == 2


def test_build_script_without_a_bundle_builds_nothing(tmp_path: Path) -> None:
    done = build_script("-o", str(tmp_path / "image"))
    assert done.returncode == 1
    assert "name a bundle" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.occlum
def test_the_same_instance_builds_and_runs_with_the_real_occlum(
    instance: TestInstance,
) -> None:
    real = shutil.which("occlum")
    assert real is not None
    folder = instance.folder.with_name("real")
    run(real, "new", str(folder), at=folder.parent)
    shutil.rmtree(folder / "image")
    shutil.copytree(instance.folder / "stage", folder / "stage")
    shutil.copy(instance.folder / "Occlum.json", folder / "Occlum.json")
    run("copy_bom", "-f", str(instance.folder / "bom.yaml"), "--root", "image", at=folder)
    run(real, "build", "--sign-key", str(instance.sign_key), "--sgx-mode", "SIM", at=folder)
    assert (folder / "build" / "Enclave.xml").stat().st_size > 0
    assert run(real, "run", "/bin/probe", "print('ran')", at=folder).endswith("ran\n")


def run(*argv: str, at: Path) -> str:
    done = subprocess.run(argv, cwd=at, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
