"""tools/client.py and the package behind it, against a server over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.integration.protocol import Served, protocol_server
from tests.unit.app.server.clients import identity
from tests.unit.app.server.routes.requests import picture
from tools.commands.client import main
from tools.errors import ServingError
from tools.serving_client import ServingClient, Trust
from tools.serving_client.connection import Connection
from tools.serving_client.requests import Options


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with protocol_server(tmp_path_factory.mktemp("client")) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[ServingClient]:
    trust = Trust(fingerprint=identity().fingerprint)
    with ServingClient(f"https://{served.address}", trust) as found:
        yield found


@dataclass
class Run:
    """What a command did."""

    status: int
    out: str
    err: str


@dataclass
class Command:
    """Runs the command against the server."""

    served: Served
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, cacert: Path | None = None) -> Run:
        """Trusts the server's certificate unless told otherwise."""
        trusted = str(cacert or self.served.certificate)
        url = f"https://{self.served.address}"
        status = main(["--url", url, "--cacert", trusted, *arguments])
        return Run(status, *self.capsys.readouterr())


@pytest.fixture
def command(served: Served, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(served, capsys)


INPUTS = {"x": np.arange(4, dtype="f4").reshape(1, 4), "count": np.array([10])}


@pytest.mark.parametrize("binary", [True, False])
def test_infer(client: ServingClient, binary: bool) -> None:
    options = Options(binary=binary, outputs=["y"], request_id="a", timeout_us=9_000_000)
    answer = client.infer("sums", INPUTS, version="1", options=options)
    assert answer.request_id == "a"
    assert answer.outputs["y"].tolist() == [[10, 11, 12, 13]]


def test_body_is_used_in_place(client: ServingClient, served: Served) -> None:
    client.infer("sums", INPUTS)
    call = served.models.served["sums"].calls[-1]
    assert not any(array.flags.owndata for array in call.inputs.values())


def test_classes(client: ServingClient) -> None:
    asked = Options(outputs=["scores"], classes=1)
    answer = client.infer("shades", {"image": np.ones((1, 1, 2, 2), "f4")}, options=asked)
    assert answer.outputs["scores"].tolist() == [["1.000000:1:light"]]


def test_everything_else(client: ServingClient, served: Served) -> None:
    assert client.is_ready()
    assert client.is_ready("sums", "1")
    assert not client.is_ready("none")
    assert client.metadata()["name"] == "cloister"
    assert client.metadata("sums")["versions"] == ["1"]
    assert client.statistics("sums")[0]["name"] == "sums"
    assert len(client.statistics()) == len(client.models())
    assert client.classify("shades", picture(), top_k=1).labels[0].label == "light"
    client.load("sums")
    client.unload("sums")
    assert served.models.changes[-2:] == [("load", "sums"), ("unload", "sums")]


def test_refusal_has_the_servers_reason(client: ServingClient) -> None:
    with pytest.raises(ServingError, match="no model 'a b'") as refused:
        client.metadata("a b")
    assert refused.value.status == 404


def test_other_certificate_gets_nothing(served: Served) -> None:
    """Not even the request's first byte, which could be a token."""
    before = len(served.models.calls)
    for trust, said in (
        (Trust(fingerprint="00" * 32, token="secret"), "is another one"),
        (Trust(token="secret"), "isn't trusted"),
    ):
        with ServingClient(f"https://{served.address}", trust) as client:
            for _ in range(2):
                with pytest.raises(ServingError, match=said):
                    client.infer("sums", INPUTS)
    assert len(served.models.calls) == before


@pytest.mark.parametrize("url", ["http://localhost", "localhost:1", "https://", "https://a/b"])
def test_url(url: str) -> None:
    with pytest.raises(ServingError, match="expected https://HOST:PORT"):
        ServingClient(url, Trust())


def test_server_that_is_not_there() -> None:
    with pytest.raises(ServingError, match="https://localhost:1"):
        ServingClient("https://localhost:1", Trust()).metadata()


def test_infer_command(command: Command, tmp_path: Path) -> None:
    for name, array in INPUTS.items():
        np.save(tmp_path / f"{name}.npy", array)
    inputs = [f"{name}={tmp_path / name}.npy" for name in INPUTS]
    shown = command("infer", "sums", *inputs, "--json")
    assert (shown.status, shown.err) == (0, "")
    assert "y float32 [1, 4]" in shown.out
    target = tmp_path / "out.npz"
    assert command("infer", "sums", *inputs, "-o", str(target)).status == 0
    with np.load(target) as found:
        assert found["y"].tolist() == [[10, 11, 12, 13]]


def test_other_commands(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture())
    assert "light" in command("classify", "shades", str(file), "--top-k", "1").out
    assert json.loads(command("metadata", "sums").out)["name"] == "sums"
    assert json.loads(command("metadata").out)["name"] == "cloister"
    assert json.loads(command("statistics", "sums").out)[0]["name"] == "sums"
    assert {"sums", "shades"} <= {each["name"] for each in json.loads(command("models").out)}
    assert command("load", "sums").out == "sums: loaded\n"
    assert command("unload", "sums").out == "sums: unloaded\n"
    assert (command("ready").status, command("ready", "none").status) == (0, 1)


def test_mistakes_are_one_line(command: Command, tmp_path: Path) -> None:
    broken = tmp_path / "broken.npy"
    broken.write_text("nothing")
    np.savez(tmp_path / "several.npz", INPUTS["x"])
    empty = tmp_path / "empty.npy"
    empty.touch()
    for arguments, status, said in (
        (["infer", "sums", f"x={broken}"], 2, "NumPy's .npy format"),
        (["infer", "sums", f"x={empty}"], 2, "NumPy's .npy format"),
        (["infer", "sums", f"x={tmp_path / 'several.npz'}"], 2, "NumPy's .npy format"),
        (["infer", "sums", f"x={tmp_path / 'none.npy'}"], 2, "No such file"),
        (["metadata", "none"], 1, "no model 'none'"),
    ):
        done = command(*arguments)
        assert done.status == status
        assert said in done.err
        assert done.err.count("\n") == 1
    for file in (broken, tmp_path / "none.pem"):
        done = command("ready", cacert=file)
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert f"--cacert {file}: no usable PEM" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["infer", "sums", "x"], "expected NAME=FILE.npy"),
        (["infer", "sums", "x="], "expected NAME=FILE.npy"),
        (["--timeout", "0", "ready"], "expected seconds, above 0"),
        (["--timeout=-1", "ready"], "expected seconds, above 0"),
        (["--timeout", "inf", "ready"], "expected seconds, above 0"),
        (["--timeout", "1e30", "ready"], "expected seconds, above 0"),
        (["--timeout", "soon", "ready"], "expected seconds, above 0"),
        (["--url", "http://localhost", "ready"], "expected https://HOST:PORT"),
        (["classify", "shades", "a.png", "--top-k", "0"], "expected a number from 1"),
        (["infer", "sums", "x=x.npy", "--classes=-1"], "expected a number from 1"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_a_model_can_be_tried_without_knowing_it(command: Command) -> None:
    tried = command("try", "sums")
    assert (tried.status, tried.err) == (0, "")
    assert "y float32 [1, 4]\n[[0. 0. 0. 0.]]\n" in tried.out


def test_example_is_a_request_that_is_answered(command: Command, served: Served) -> None:
    """What `curl -d` would send, byte for byte."""
    body = command("example", "sums").out.encode()
    assert {each["name"] for each in json.loads(body)["inputs"]} == INPUTS.keys()
    trust = Trust(ca_file=served.certificate)
    with closing(Connection(f"https://{served.address}", trust, 60)) as connection:
        answer = json.loads(connection.ask("POST", "/v2/models/sums/infer", [body]).body)
    assert answer["outputs"][0]["data"] == [0, 0, 0, 0]


def test_who_is_not_trusted_is_shown_and_how_to_trust_it(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    own = identity().fingerprint.removeprefix("sha256 ")
    url = ["--url", f"https://{served.address}"]
    assert main([*url, "ready"]) == 1
    said = capsys.readouterr().err
    assert f"its fingerprint is {own}; " in said
    assert "--cacert" in said
    assert "--fingerprint" in said
    assert main([*url, "--fingerprint", "00" * 32, "ready"]) == 1
    said = capsys.readouterr().err
    assert f"its fingerprint is {own}, --fingerprint asks for 00:00:" in said
    assert main([*url, "--fingerprint", "AB:CD", "ready"]) == 2
    assert "--fingerprint: expected 32 bytes in hexadecimal" in capsys.readouterr().err
    assert main([*url, "--fingerprint", own, "ready"]) == 0


def test_ctrl_c_is_one_word(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ServingClient, "metadata", interrupted)
    done = command("metadata")
    assert (done.status, done.out, done.err) == (130, "", "stopped\n")
