"""What `occlum run` allows a program of the image, and what it doesn't."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.instances import WATCHDOG_S, TestInstance, make_instance, path_without
from tools.launcher import ROOT


@pytest.mark.usefixtures("sandbox")
def test_the_environment_comes_from_the_configuration_alone(built: TestInstance) -> None:
    done = built.probe(
        "import json, os; print(json.dumps(dict(os.environ)))", env={"SECRET_OF_THE_HOST": "1"}
    )
    seen = json.loads(done.out)
    configured = json.loads((built.folder / "Occlum.json").read_text())["env"]["default"]
    wanted = dict(item.split("=", 1) for item in configured)
    assert {name: seen.pop(name) for name in ("OCCLUM_STAND_IN", "PWD")} == {
        "OCCLUM_STAND_IN": "sandbox",
        "PWD": "/",
    }
    assert seen == wanted


@pytest.mark.usefixtures("sandbox")
def test_the_banner_says_simulation_and_what_is_in_force(built: TestInstance) -> None:
    done = built.probe("print('ran')")
    assert done.out == "ran\n"
    assert "SIMULATION, no SGX" in done.err
    assert "filtered as Occlum" in done.err
    assert "NOT checked" not in done.err


@pytest.mark.parametrize("status", [0, 3, 127])
def test_the_status_is_the_programs(built: TestInstance, status: int) -> None:
    assert built.probe(f"raise SystemExit({status})").status == status


def test_a_status_loses_its_highest_bit(built: TestInstance) -> None:
    assert built.probe("raise SystemExit(128 + 0)").status == 0


def test_a_killed_program_is_reported_by_its_signal(built: TestInstance) -> None:
    assert built.probe("import os; os.kill(os.getpid(), 9)").status == 128 + signal.SIGKILL


@pytest.mark.parametrize("program", ["/opt/python-occlum/bin/python3", "bin/probe", "/bin/../x"])
def test_only_entry_points_start(built: TestInstance, program: str) -> None:
    done = built.occlum("run", program)
    assert done.status == 127
    assert "NOT a valid entry point" in done.err


def test_a_program_that_is_not_there(built: TestInstance) -> None:
    done = built.occlum("run", "/bin/absent")
    assert done.status == 127
    assert "isn't a file of the image" in done.err


def test_memory_is_bounded(instance: TestInstance) -> None:
    instance.configure(resource_limits__user_space_size="256MB")
    assert instance.build().status == 0
    code = "bytearray({} << 20); print('held')"
    assert instance.probe(code.format(64)).out == "held\n"
    done = instance.probe(code.format(256))
    assert "MemoryError" in done.err
    assert done.out == ""


def test_too_many_threads_end_the_app(instance: TestInstance) -> None:
    instance.configure(resource_limits__max_num_of_threads=6)
    assert instance.build().status == 0
    code = (
        "import threading\n"
        "done = threading.Event()\n"
        "for _ in range({}): threading.Thread(target=done.wait, daemon=True).start()\n"
        "print('started', flush=True)\n"
        "done.wait({})\n"
    )
    within = instance.probe(code.format(5, 0.5))
    assert (within.status, within.out) == (0, "started\n"), within.err
    beyond = instance.probe(code.format(6, WATCHDOG_S))
    assert beyond.status == 1
    assert "0x1003 Out of TCS" in beyond.err


PLANT = """
import os
for path, text in {plans!r}.items():
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, 'a').write(text)
os.makedirs('/etc/closed')
os.chmod('/etc/closed', 0)
os.remove('/etc/hostname') if os.path.exists('/etc/hostname') else None
print('planted')
"""
PLANTED = {
    "/bin/probe": "# changed",
    "/etc/cloister/config.json": "{}",
    "/opt/python-occlum/lib/python3.11/sitecustomize.py": "print('mine now')",
    "/tmp/note": "x",
    "/run/insecure-keys/digits.key": "x",
}


@pytest.mark.usefixtures("sandbox")
def test_nothing_that_a_run_plants_is_there_in_the_next(instance: TestInstance) -> None:
    """Another enclave of the signer, or an older one, writes where measured files lie."""
    look = (
        "import os; print('changed' in open('/bin/probe').read(), "
        f"[p for p in {sorted(PLANTED)!r} if p != '/bin/probe' and os.path.exists(p)], "
        "os.path.exists('/etc/closed'))"
    )
    assert instance.build().status == 0
    for _ in range(2):
        assert instance.probe(PLANT.format(plans=PLANTED)).out == "planted\n"
        assert instance.probe(look).out == "False [] False\n"
    packed = instance.folder / "build" / "mount" / "__ROOT"
    assert "changed" not in (packed / "bin" / "probe").read_text()


@pytest.mark.usefixtures("sandbox")
def test_a_layer_that_the_host_fills_before_the_start_is_not_used(instance: TestInstance) -> None:
    assert instance.build().status == 0
    planted = instance.folder / "run" / "mount" / "__ROOT" / "bin" / "probe"
    planted.parent.mkdir(parents=True)
    planted.write_text("#!/opt/python-occlum/bin/python3\nprint('mine now')\n")
    planted.chmod(0o755)
    assert instance.probe("print('ran')").out == "ran\n"


def test_a_copy_of_the_image_is_as_fresh_as_an_overlay(
    tmp_path: Path, prefix: Path, sign_key: Path
) -> None:
    # A comma can't be written into the options of an overlay.
    instance = make_instance(tmp_path / "a,b", prefix, sign_key)
    assert instance.build().status == 0
    path = path_without(tmp_path / "path", "bwrap")
    write = (
        "import os; root = os.environ['OCCLUM_STAND_IN_ROOT']; "
        "open(root + '/etc/note', 'w').write('x')"
    )
    look = "import os; print(os.path.exists(os.environ['OCCLUM_STAND_IN_ROOT'] + '/etc/note'))"
    assert instance.probe(write, env={"PATH": path}).status == 0
    assert instance.probe(look, env={"PATH": path}).out == "False\n"


@pytest.mark.usefixtures("sandbox")
def test_places_in_memory_leave_nothing_on_the_disk(instance: TestInstance) -> None:
    assert instance.build().status == 0
    write = "import pathlib; [pathlib.Path(p).write_text('secret') for p in ('/tmp/k', '/run/k')]"
    assert instance.probe(write).status == 0
    layer = instance.folder / "run"
    assert not [p for p in layer.rglob("k") if p.is_file()]


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        (
            {"target": "/", "options": {}},
            "layers[1] must be a sefs whose options.temporary is true",
        ),
        ({"target": "/", "options": {"temporary": False}}, "options.temporary is true"),
        ({"target": "/", "options": {"temporary": "true"}}, "options.temporary is true"),
        ({"target": "/tmp", "type": "sefs", "source": "./run/tmp"}, "nothing written may stay"),
        ({"target": "/tmp", "type": "ext2", "source": "./run/e"}, "keeps what is written"),
        ({"target": "/bin", "type": "ramfs"}, "measured files would be hidden"),
        ({"target": "/opt/python-occlum", "type": "ramfs"}, "measured files would be hidden"),
        ({"target": "/run/../bin", "type": "ramfs"}, "without '..'"),
    ],
)
def test_an_image_whose_files_could_be_replaced_is_not_built(
    instance: TestInstance, mount: dict[str, object], reason: str
) -> None:
    mounts = json.loads((instance.folder / "Occlum.json").read_text())["mount"]
    if mount["target"] == "/":
        mounts[0]["options"]["layers"][1]["options"] = mount["options"]
    else:
        mounts = [m for m in mounts if m["target"] != mount["target"]] + [mount]
    instance.configure(mount=mounts)
    done = instance.build()
    assert done.status == 1
    assert reason in done.err
    assert not (instance.folder / "build").exists()


def test_an_altered_image_does_not_start(instance: TestInstance) -> None:
    assert instance.build().status == 0
    packed = instance.folder / "build" / "mount" / "__ROOT" / "bin" / "probe"
    packed.write_text(packed.read_text() + "\n")
    done = instance.probe("print('ran')")
    assert done.status == 1
    assert "altered after it was built" in done.err
    assert done.out == ""


def test_a_changed_configuration_counts_from_the_next_build(instance: TestInstance) -> None:
    assert instance.build().status == 0
    instance.configure(env__default=["PYTHONHOME=/opt/python-occlum", "NEW=1"])
    look = "import os; print(os.environ.get('NEW'))"
    assert instance.probe(look).out == "None\n"
    assert instance.build().status == 0
    assert instance.probe(look).out == "1\n"


@pytest.mark.usefixtures("sandbox")
def test_a_host_folder_is_seen_only_when_mounted(instance: TestInstance, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "x.bundle").write_text("seen")
    content = json.loads((instance.folder / "Occlum.json").read_text())
    mount = {"target": "/host", "type": "hostfs", "source": str(shared)}
    instance.configure(mount=[*content["mount"], mount])
    refused = instance.build()
    assert "target /host isn't a folder of the image" in refused.err
    bom = instance.folder / "bom.yaml"
    bom.write_text(bom.read_text().replace("etc,", "etc, host,"))
    assert instance.build().status == 0
    assert instance.probe("print(open('/host/x.bundle').read())").out == "seen\n"


@pytest.mark.usefixtures("sandbox")
def test_a_plain_run_leaves_nothing_that_keeps_the_sandbox_from_starting(
    instance: TestInstance, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "x.bundle").write_text("seen")
    bom = instance.folder / "bom.yaml"
    bom.write_text(bom.read_text().replace("etc,", "etc, host,"))
    content = json.loads((instance.folder / "Occlum.json").read_text())
    mount = {"target": "/host", "type": "hostfs", "source": str(shared)}
    instance.configure(mount=[*content["mount"], mount])
    assert instance.build().status == 0
    look = (
        "import os; r = os.environ.get('OCCLUM_STAND_IN_ROOT', ''); print(os.listdir(r + '/host'))"
    )
    plain = {"PATH": path_without(tmp_path / "path", "bwrap")}
    for environment in (plain, {}, plain, {}):
        assert instance.probe(look, env=environment).out == "['x.bundle']\n"


def test_one_instance_runs_at_a_time_and_sigterm_ends_it(instance: TestInstance) -> None:
    assert instance.build().status == 0
    code = "import time; print('up', flush=True); time.sleep(600)"
    first = subprocess.Popen(
        [sys.executable, ROOT / "tools" / "occlum", "run", "/bin/probe", code],
        cwd=instance.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"up\n"
        second = instance.probe("print('ran')")
        assert (second.status, second.out) == (1, "")
        assert "is running" in second.err
        first.send_signal(signal.SIGTERM)
        assert first.wait(WATCHDOG_S) == -signal.SIGTERM
        # The pipe ends only when no process of the sandbox holds it any more.
        assert first.stdout.read() == b""
    assert instance.probe("print('ran')").out == "ran\n"


@pytest.mark.usefixtures("sandbox")
def test_without_an_overlay_the_image_is_copied(
    tmp_path: Path, prefix: Path, sign_key: Path
) -> None:
    # A comma can't be written into the options of an overlay.
    instance = make_instance(tmp_path / "a,b", prefix, sign_key)
    assert instance.build().status == 0
    done = instance.probe("open('/bin/probe', 'a').write('# changed'); print('ran')")
    assert done.out == "ran\n"
    assert "a copy of the image" in done.err
    packed = instance.folder / "build" / "mount" / "__ROOT" / "bin" / "probe"
    assert "changed" not in packed.read_text()


def test_without_bubblewrap_it_says_what_is_not_checked(
    instance: TestInstance, tmp_path: Path
) -> None:
    assert instance.build().status == 0
    look = "import os, sys; print(os.environ['OCCLUM_STAND_IN_ROOT'], sys.prefix, sys.argv[0])"
    done = instance.probe(look, env={"PATH": path_without(tmp_path / "path", "bwrap")})
    root = str(instance.folder.resolve() / "run" / "mount" / "__ROOT")
    assert done.out.split() == [root, f"{root}/opt/python-occlum", f"{root}/bin/probe"]
    assert "plain process" in done.err
    assert "NOT checked: files outside the image, system calls" in done.err


def test_a_plain_process_gets_the_configured_environment(
    instance: TestInstance, tmp_path: Path
) -> None:
    assert instance.build().status == 0
    path = path_without(tmp_path / "path", "bwrap")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(instance.probe(code, env={"PATH": path, "SECRET_OF_THE_HOST": "1"}).out)
    assert seen["OCCLUM_STAND_IN"] == "process"
    assert "SECRET_OF_THE_HOST" not in seen
    assert os.environ["PATH"] not in seen.values()


def test_nothing_runs_before_a_build(instance: TestInstance) -> None:
    done = instance.probe("print('ran')")
    assert (done.status, done.out) == (1, "")
    assert "isn't built yet" in done.err
