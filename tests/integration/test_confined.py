"""The commands that work on a model do so in a process that can do little harm.

The attacker's model never ends, fills the memory, crashes a library, or has code of the attacker's
run in the process. Expected: one line and exit status 2, nothing half-written, and nothing of the
owner's was read or changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import folders, models
from tests.docs.commands import ROOT
from tests.graph import FLOAT, OPSET
from tests.integration.test_ctrl_c import WATCHDOG_S, group_of, until
from tools.commands.partition import main as partition

SIZE: Final = 32


def model_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, FLOAT, [SIZE]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def endless(rounds: int = 1 << 62) -> onnx.ModelProto:
    """A loop of so many rounds that nobody sees its end."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("c", TensorProto.BOOL, []),
            info("v", FLOAT, [SIZE]),
        ],
        [info("d", TensorProto.BOOL, []), info("w", FLOAT, [SIZE])],
    )
    loop = helper.make_node("Loop", ["rounds", "on", "x"], ["y"], body=body)
    return model_of([loop], rounds=np.array(rounds), on=np.array(True))


def endless_while_measured() -> onnx.ModelProto:
    """Its input's content decides how often, which no optimiser knows."""
    model = endless()
    model.graph.node[0].input[1] = ""
    return model


def filling(size: int = 1 << 30) -> onnx.ModelProto:
    """A few bytes that ask for gigabytes."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["b"], value=one),
        helper.make_node("ReduceSum", ["b"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model_of(nodes, s=np.array([size]))


def repeating() -> onnx.ModelProto:
    """The same by copies of copies."""
    nodes = [
        helper.make_node("Expand", ["x", "s"], ["b"]),
        helper.make_node("Mul", ["b", "b"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model_of(nodes, s=np.array([1 << 25, SIZE]))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter in the project's folder."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
        check=False,
    )


def said(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """The command's own lines; onnxruntime may have spoken too."""
    return [line for line in ended.stderr.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (endless, ["tools/check_accuracy.py", "{}/m", "--report", "{}/reports/r.html"]),
        (endless_while_measured, ["tools/check_accuracy.py", "{}/m", "--json"]),
        (endless, ["tools/partition.py", "{}/m", "--measure"]),
    ],
)
def test_a_model_that_never_ends(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], words: Sequence[str]
) -> None:
    folder = folders.make_folder(make(), tmp_path / "m", count=1).path
    before = folders.files(folder)
    ended = command(*(word.format(tmp_path) for word in words), "--time-limit", "1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said(ended) == [
        "error: the time limit of 1 s is over: the model may never end; --time-limit gives a "
        "large one more; nothing was written"
    ]
    assert folders.files(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.source"]


@pytest.mark.parametrize("make", [filling, repeating])
def test_a_model_that_fills_the_memory(tmp_path: Path, make: Callable[[], onnx.ModelProto]) -> None:
    folder = folders.make_folder(make(), tmp_path / "m", count=1).path
    ended = command("tools/check_accuracy.py", str(folder), "--memory-limit", "2GiB")
    assert (ended.returncode, len(said(ended))) == (2, 1)
    assert "--memory-limit" in ended.stderr
    assert "Traceback" not in ended.stderr


CONFINED: Final = """
import ctypes, os, signal, socket, sys
from pathlib import Path
from tools.confinement.supervisor import supervise

supervise()
from tools.command_line import run
from tools.confinement.child import Confinement
from tools.files import new_folder

{before}
MODEL, TARGET = Path(sys.argv[1]), Path(sys.argv[2])

def work():
{work}
    return 0

sys.exit(run(work, Confinement(models=[MODEL], folders=[TARGET])))
"""


def confined(work: str, *paths: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Runs statements as the code of a command that was given a model and a target."""
    statements = textwrap.indent(textwrap.dedent(work), "    ")
    program = CONFINED.format(before=before, work=statements)
    return command("-c", program, *map(str, paths))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A model and a target that isn't there yet."""
    model = models.save(models.chain(), tmp_path / "downloads" / "net.onnx")
    return [model, tmp_path / "made" / "for" / "target"]


CRASHES: Final = {
    "SIGSEGV": "ctypes.string_at(0)",
    "SIGABRT": "os.abort()",
    "SIGBUS": "os.kill(os.getpid(), signal.SIGBUS)",
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_model_that_crashes_a_library(paths: list[Path], name: str, tmp_path: Path) -> None:
    """In the middle of writing: the half-written folder goes."""
    work = f"""
        with new_folder(TARGET) as folder:
            (folder / "half").write_bytes(b"half")
            print("half-written in", len(list(TARGET.parent.iterdir())), flush=True)
            {CRASHES[name]}
    """
    ended = confined(work, *paths)
    assert ended.stdout == "half-written in 1\n"
    assert ended.returncode == 2
    assert said(ended) == [
        f"error: ended by {name}: what was given made a library crash that works on it; nothing "
        "was written"
    ]
    assert not (tmp_path / "made").exists()


def test_a_process_that_the_system_kills(paths: list[Path], tmp_path: Path) -> None:
    ended = confined("os.kill(os.getpid(), signal.SIGKILL)", *paths)
    assert ended.returncode == 2
    assert "too little memory is the usual reason" in ended.stderr
    assert not (tmp_path / "made").exists()


def test_what_succeeds_is_there(paths: list[Path]) -> None:
    ended = confined(
        """
        with new_folder(TARGET) as folder:
            (folder / "whole").write_bytes(MODEL.read_bytes())
        print(Path(os.environ["TMPDIR"]).parent)
        """,
        *paths,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (paths[1] / "whole").read_bytes() == paths[0].read_bytes()
    assert list(paths[1].parent.iterdir()) == [paths[1]]


REACHES: Final = {
    "a key beside the model": "open(MODEL.parent / 'other.key').read()",
    "hidden settings beside the model": "open(MODEL.parent / '.netrc').read()",
    "a file elsewhere": "open({elsewhere!r}).read()",
    "a link beside the model": "open(MODEL.parent / 'link').read()",
    "code of the project": "open({root!r} + '/tools/errors.py', 'a')",
    "a new module": "open({root!r} + '/app/new.py', 'x')",
    "a file beside the target": "open(TARGET.parent / 'other', 'w')",
    "the model itself": "open(MODEL, 'a')",
    "the model's folder": "os.unlink(MODEL)",
    "the system's settings": "open('/etc/passwd', 'a')",
    "the memory of the starter": "open(f'/proc/{{os.getppid()}}/mem', 'rb')",
    "the environment of the starter": "open(f'/proc/{{os.getppid()}}/environ', 'rb').read()",
    "a server": "socket.create_connection(('127.0.0.1', 9), timeout=1)",
    "datagrams": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
    "packets": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "the starter": "os.kill(os.getppid(), signal.SIGTERM)",
}


def test_code_of_the_attackers_reaches_nothing(paths: list[Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    downloads = paths[0].parent
    for place in (elsewhere, downloads / "other.key", downloads / ".netrc"):
        place.write_text("secret")
    (downloads / "link").symlink_to(elsewhere)
    program = "".join(
        f"""
        try:
            {reach.format(elsewhere=str(elsewhere), root=str(ROOT))}
            print({what!r})
        except PermissionError:
            tried.append({what!r})
        """
        for what, reach in REACHES.items()
    )
    ended = confined(f"tried = []\n{textwrap.dedent(program)}\nprint(len(tried))", *paths)
    assert ended.stdout == f"{len(REACHES)}\n", ended.stderr
    assert ended.returncode == 0


def test_keys_are_out_of_reach_where_a_folder_with_them_is_read(tmp_path: Path) -> None:
    """As where the model lies in the project's own folder, and build/ with the keys is in it."""
    (tmp_path / "build" / "keys").mkdir(parents=True)
    (tmp_path / "build" / "keys" / "m.key").write_text("secret")
    (tmp_path / "build" / "weights.bin").write_text("weights")
    model = models.save(models.chain(), tmp_path / "net.onnx")
    work = f"""
        print(open({str(tmp_path)!r} + "/build/weights.bin").read())
        try:
            open({str(tmp_path)!r} + "/build/keys/m.key")
        except PermissionError:
            print("refused")
    """
    before = "import tools.confinement.child as child\n"
    before += f"child._KEYS = (Path({str(tmp_path)!r}) / 'build' / 'keys',)\n"
    ended = confined(work, model, tmp_path / "out", before=before)
    assert ended.stdout == "weights\nrefused\n", ended.stderr


def test_what_a_process_left_running_is_ended(paths: list[Path]) -> None:
    """A child that the command started doesn't outlive a crash."""
    work = """
        child = os.fork()
        if not child:
            signal.pause()
        print(child, flush=True)
        os.abort()
    """
    ended = confined(work, *paths)
    child = int(ended.stdout)
    assert ended.returncode == 2
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_starter_that_is_ended_takes_the_work_with_it(tmp_path: Path, number: int) -> None:
    folder = folders.make_folder(endless(), tmp_path / "m", count=1).path
    words = [sys.executable, "tools/check_accuracy.py", str(folder), "--quiet"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with group_of(words, scratch) as process:
        until(lambda: bool(list(scratch.glob("c-*"))))
        os.kill(process.pid, number)
        process.communicate(timeout=WATCHDOG_S)
        assert process.returncode == -number
    if number == signal.SIGTERM:
        assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("whom", ["the starter", "both, as a terminal does"])
def test_ctrl_c(tmp_path: Path, whom: str) -> None:
    """What was found until then is shown, whoever gets the signal, and nothing is left."""
    folder = folders.make_folder(endless(1 << 20), tmp_path / "m", count=1).path
    words = [sys.executable, "tools/check_accuracy.py", str(folder), "--quiet"]
    assert interrupted(words, whom, tmp_path / "scratch") == "stopped\n"


def test_ctrl_c_while_a_library_computes_for_ever(tmp_path: Path) -> None:
    folder = folders.make_folder(endless(), tmp_path / "m", count=1).path
    words = [sys.executable, "tools/check_accuracy.py", str(folder), "--quiet"]
    assert interrupted(words, "the starter", tmp_path / "scratch") == "stopped\n"


def interrupted(words: Sequence[str], whom: str, scratch: Path) -> str:
    """Interrupts a command at its work; gives what it said."""
    scratch.mkdir()
    with group_of(words, scratch) as process:
        until(lambda: bool(list(scratch.glob("c-*"))))
        if whom == "the starter":
            process.send_signal(signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=WATCHDOG_S)
    assert process.returncode == 130
    assert list(scratch.iterdir()) == []
    return errors


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["tools/partition.py", "--help"], 0),
        (["tools/partition.py", "nothing.onnx", "--dry-run"], 2),
        (["tools/bundle.py", "nothing", "--key", "none", "-o", "out"], 2),
        (["tools/check_accuracy.py", "partitions", "--time-limit", "0"], 2),
    ],
)
def test_wrong_arguments(words: Sequence[str], status: int) -> None:
    ended = command(*words)
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert bool(ended.stderr) == bool(status)


def test_a_kernel_without_the_means_is_said(paths: list[Path]) -> None:
    before = "from tools.confinement import landlock\nlandlock.version = lambda: 0"
    ended = confined("pass", *paths, before=before)
    assert ended.returncode == 0
    assert ended.stderr.startswith("note: this kernel has no Landlock")


def test_a_command_that_is_called_by_a_program_stays_as_it_is(tmp_path: Path) -> None:
    path = models.save(models.chain(), tmp_path / "net.onnx")
    assert partition([str(path), "--dry-run", "--partitions", "1", "--quiet"]) == 0
    (tmp_path / "written afterwards").write_bytes(b"x")
