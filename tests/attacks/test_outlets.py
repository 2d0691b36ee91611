"""The host listens: all that a process says on its own descriptors is the host's to read.

Clients send values that make kernels fail, and onnxruntime's errors name them. Libraries of C and
C++ write to descriptors 1 and 2 without asking Python, some only when they end the process. What
arrives there may be no more than the announcement and lines of the log's fields.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.dumps import forbid_dumps
from app.engine import WholeModel
from app.server.logs import FIELDS, Event
from tests.failing_models import FAILING, SECRET
from tests.folders import KEYS, make_bundle, make_folder
from tests.integration.appliance import ROOT, prepare, read_announcement
from tools.bundling.keys import encode_public_key

SAID = "something that the host has to learn nowhere"
OURS = {"announced": "first\nlast\n", "log": "line\n"}


def test_failing_models_tell_the_host_nothing(tmp_path: Path) -> None:
    """Every one of them fails in its kernel; then the whole of both outlets is read."""
    config = prepare(tmp_path, **_models(tmp_path))
    command = [sys.executable, "-m", "app", "--config", str(config)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            appliance = read_announcement(process, tmp_path)
            for name, failing in FAILING.items():
                answer = appliance.curl(
                    f"/v2/models/{name}/infer", "--data", json.dumps(failing.body())
                )
                assert answer.status == 500, name
                assert str(SECRET) not in json.dumps(answer.body)
            process.terminate()
            announced, log = process.communicate(timeout=30)
        finally:
            process.kill()
    *loaded, last = announced.splitlines()
    assert last == "stopped"
    assert all(re.fullmatch("model [a-z-]+ version 1: 1 partitions, .*", line) for line in loaded)
    lines = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        assert set(line) <= set(FIELDS)
        assert line["event"] in {event.value for event in Event}
    failed = [line for line in lines if line.get("error") == "ExecutionError"]
    assert len(failed) == len(FAILING)
    for secret in (str(SECRET), "{27}", "out of", "Non-zero status"):
        assert secret not in log


def _models(folder: Path) -> dict[str, Any]:
    entries = []
    owner = encode_public_key(KEYS.owner.public_key()).decode().strip()
    keys = folder / "their-keys"
    keys.mkdir()
    for name, failing in FAILING.items():
        bundle = make_bundle(make_folder(failing.make(), folder / name), folder / f"{name}.bundle")
        (keys / f"{name}.key").write_bytes(KEYS.model_key)
        entry = {"id": name, "bundle": str(bundle), "minimum_version": 1, "owner_public_key": owner}
        entries.append(entry)
    return {"models": entries, "insecure_key_folder": str(keys), "budget_bytes": 64 << 20}


def _speak(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs code that speaks in its way after the appliance took the outlets."""
    program = (
        "import ctypes, faulthandler, os, sys, threading, warnings\n"
        "from app.outlets import take_outlets\n"
        "outlets = take_outlets()\n"
        "libc = ctypes.CDLL(None)\n"
        f"SAID = {SAID!r}\n"
        "print('first', file=outlets.announcements)\n"
        f"{code}\n"
        "print('last', file=outlets.announcements)\n"
        "print('line', file=outlets.log)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        input=SAID.encode(),
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "code",
    [
        "print(SAID)",
        "print(SAID, file=sys.stderr, flush=True)",
        "sys.__stdout__.write(SAID); sys.__stderr__.write(SAID)",
        "os.write(1, SAID.encode()); os.write(2, SAID.encode())",
        "libc.puts(SAID.encode()); libc.fflush(None)",
        "libc.perror(SAID.encode())",
        "libc.dprintf(2, SAID.encode())",
        "warnings.warn(SAID)",
        "threading.Thread(target=int, args=[SAID]).start()",
        "faulthandler.enable(); faulthandler.dump_traceback()",
        "faulthandler.dump_traceback(file=2)",
        "class Bad:\n    def __del__(self): raise ValueError(SAID)\nBad()",
        "open('/proc/self/fd/1', 'w').write(SAID); open('/dev/stderr', 'w').write(SAID)",
        "os.system('echo ' + repr(SAID) + '; echo ' + repr(SAID) + ' >&2')",
    ],
)
def test_whoever_speaks_without_the_outlets_isnt_heard(code: str) -> None:
    done = _speak(code)
    assert (done.stdout.decode(), done.stderr.decode()) == (OURS["announced"], OURS["log"])
    assert done.returncode == 0


@pytest.mark.parametrize(
    "code",
    [
        "faulthandler.enable(); ctypes.string_at(0)",
        "libc.free(ctypes.c_void_p(0x1234))",
        "buffer = libc.malloc; buffer.restype = ctypes.c_void_p; place = buffer(64)\n"
        "libc.free(ctypes.c_void_p(place)); libc.free(ctypes.c_void_p(place))",
        "ctypes.CDLL('libstdc++.so.6')._ZSt9terminatev()",
        "libc.__assert_fail(SAID.encode(), b'f', 1, b'g')",
        "libc.__fortify_fail(SAID.encode())",
        "ctypes.pythonapi.Py_FatalError(SAID.encode())",
    ],
)
def test_a_crash_tells_nothing(code: str) -> None:
    done = _speak(code)
    assert done.returncode < 0, "it wasn't ended by a signal"
    assert (done.stdout, done.stderr) == (b"first\n", b"")


def test_standard_input_is_nobodys() -> None:
    done = _speak(
        "print(sys.stdin.read(), os.read(0, 99), sys.stdin.isatty(), file=outlets.announcements)"
    )
    assert done.stdout == b"first\n b'' False\nlast\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_descriptors_that_are_closed_at_start_stay_unheard(closed: tuple[int, ...]) -> None:
    """What is opened next would get their numbers, and libraries would write into it."""
    program = (
        "import os\n"
        f"for number in {closed}: os.close(number)\n"
        "from app.outlets import take_outlets\n"
        "outlets = take_outlets()\n"
        "print('line', file=outlets.log)\n"
        f"os.write(1, b'{SAID}'); os.write(2, b'{SAID}')\n"
        "assert os.open('/dev/null', os.O_RDONLY) > 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout == b""
    assert done.stderr == (b"" if 2 in closed else b"line\n")


def test_a_failed_start_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "app", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {config}: ")
    assert "'workers' is missing" in done.stderr
    assert done.stdout == ""


def test_a_fault_of_ours_at_start_leaves_its_place_in_the_log() -> None:
    program = (
        "import sys, app.__main__ as appliance\n"
        "appliance.read_config = lambda *_: int('" + SAID + "')\n"
        "sys.exit(appliance.main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["error"] == "ValueError"
    assert SAID not in done.stdout + done.stderr


def test_a_platform_that_onnxruntime_doesnt_know_is_no_news() -> None:
    """In Occlum it warns while it is imported, before anybody took the outlets."""
    code = "import platform; platform.system = lambda: 'Occlum'; import app.engine"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_onnxruntime_says_nothing_even_where_it_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    """The tools run models with the same engine, on the owner's terminal."""
    failing = FAILING["gather"]
    model = WholeModel(failing.make().SerializeToString(), "none")
    with pytest.raises(Exception, match="out of data bounds"):
        model.run({"ids": np.array([SECRET], np.int64)})
    assert capfd.readouterr() == ("", "")


def test_nothing_is_left_for_who_reads_memory_later() -> None:
    """No core file, whatever limit the host set, and no debugger of the same user."""
    code = (
        "import ctypes, resource\n"
        "from app.dumps import forbid_dumps\n"
        "forbid_dumps()\n"
        "PR_GET_DUMPABLE = 3\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(PR_GET_DUMPABLE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=_allow_cores,
    )
    assert done.stdout == "(0, 0) 0\n"


def _allow_cores() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def test_it_starts_where_prctl_knows_no_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Occlum: the call answers EINVAL, the limit may be refused."""

    class Libc:
        def __init__(self, name: None) -> None:
            del name

        def prctl(self, *_: int) -> int:
            return -1

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("ctypes.CDLL", Libc)
    monkeypatch.setattr("resource.setrlimit", refuse)
    forbid_dumps()
