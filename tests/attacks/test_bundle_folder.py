"""The bundle folder and the key folder are filled by others, who may plant what never answers."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import app.serving.repository
from app.errors import BundleIntegrityError, BundleReadError, ConfigError, KeyUnavailableError
from app.keys import FolderKeySource
from app.server.certificate import load_client_ca, load_identity
from app.serving.catalogue import Catalogue
from app.serving.models import ServedModel
from app.serving.repository import Clock, find_bundles
from app.serving.residence import Residence
from tests import folders, models, served
from tests.folders import KEYS
from tests.unit.app.server.clients import identity
from tests.unit.app.serving.test_repository import ask, config
from tests.unit.app.serving.worlds import WATCHDOG_S, Crowd
from tools.bundling.writer import Period
from tools.model_folder import ModelFolder

FILES = (
    *("manifest.json", "manifest.sig", "card.enc", "00000.structure.enc", "00000.weights.enc"),
    *("00003.structure.enc", "00003.weights.enc"),
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def elsewhere(path: Path) -> None:
    path.symlink_to("/etc/hostname")


PLANTED: tuple[Callable[[Path], None], ...] = (pipe, endless, loop, elsewhere, Path.mkdir)


@pytest.fixture(autouse=True)
def _nobody_waits() -> Iterator[None]:
    """Ends an open that would block for ever: nobody opens a pipe's other end."""

    def too_long(*_: object) -> None:
        raise TimeoutError("somebody waits for what was planted")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class Site:
    """A folder of bundles of "chain", and what serves it."""

    def __init__(self, folder: Path, now: Clock = app.serving.repository.time_of_day) -> None:
        self.folder = folder
        self.clock_ns = 0
        self.said: list[str] = []
        self.wish = config(folder)
        self.keys = FolderKeySource(self.wish.key_folder)
        self.key_file = self.wish.key_folder / "chain.key"
        self.residence = Residence(
            self.wish.budget_bytes, clock_ns=lambda: self.clock_ns, report=self.said.append
        )
        self.catalogue = Catalogue(
            lambda: find_bundles(self.wish, self.keys, now),
            self.residence,
            report=self.said.append,
            clock_ns=lambda: self.clock_ns,
        )
        # Once: Python 3.11 fails now and then where several threads compile routes at a time.
        self.application = served.application(self.catalogue)  # type: ignore[arg-type] # the real one

    def start(self) -> Site:
        self.catalogue.start()
        return self

    def model(self) -> ServedModel:
        return self.catalogue.find("chain")

    def client(self) -> FlaskClient:
        return self.application.test_client()

    def index(self) -> Any:
        return self.client().post("/v2/repository/index").get_json()


@pytest.fixture
def site(chain_folder: ModelFolder, tmp_path: Path) -> Iterator[Site]:
    folders.make_bundle(chain_folder, tmp_path / "a.bundle", version=3)
    found = Site(tmp_path).start()
    yield found
    found.catalogue.close()


def infer(client: FlaskClient) -> Any:
    inputs = models.inputs_for(models.chain(), 1, 0)
    tensors = [
        {"name": name, "datatype": "FP32", "shape": array.shape, "data": array.ravel().tolist()}
        for name, array in inputs.items()
    ]
    return client.post("/v2/models/chain/infer", json={"inputs": tensors})


# --- what never answers ------------------------------------------------------------------------


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("file", FILES)
def test_something_else_in_the_place_of_a_file(
    site: Site, chain_folder: ModelFolder, plant: Callable[[Path], None], file: str
) -> None:
    """Whoever asks for the index, and every other client, is answered; so is who loads it."""
    planted = folders.make_bundle(chain_folder, site.folder / "b.bundle", version=4) / file
    planted.unlink()
    plant(planted)
    before = ask(site.model())
    for _ in range(5):
        entries = {(each["name"], each["version"]): each for each in site.index()}
    assert entries["chain", "3"]["state"] == "READY"
    if file.startswith("manifest"):
        assert entries["b.bundle", "0"]["reason"] == str(BundleIntegrityError())
        assert site.client().post("/v2/repository/models/chain/load").status_code == 200
    else:
        assert site.client().post("/v2/repository/models/chain/load").status_code == 500
    assert site.model().version == 3
    assert ask(site.model()) == before


@pytest.mark.parametrize("plant", PLANTED)
def test_something_else_in_the_place_of_the_key(
    chain_folder: ModelFolder, tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    folders.make_bundle(chain_folder, tmp_path / "a.bundle")
    found = Site(tmp_path)
    found.key_file.unlink()
    plant(found.key_file)
    with pytest.raises(KeyUnavailableError, match="key file"):
        found.start()


@pytest.mark.parametrize("plant", [pipe, endless, loop, Path.mkdir])
@pytest.mark.parametrize("file", ["certificate.pem", "key.pem", "ca.pem"])
def test_something_else_in_the_place_of_a_file_for_tls(
    tmp_path: Path, plant: Callable[[Path], None], file: str
) -> None:
    """They are read again when they change, and meanwhile no client is heard."""
    server = identity()
    (tmp_path / "certificate.pem").write_bytes(server.certificate_pem)
    (tmp_path / "key.pem").write_bytes(server.private_key_pem)
    (tmp_path / "ca.pem").write_bytes(server.certificate_pem)
    (tmp_path / file).unlink()
    plant(tmp_path / file)
    with pytest.raises(ConfigError, match=f"{file}: (can't be read|isn't a PEM)"):
        if file == "ca.pem":
            load_client_ca(tmp_path / file)
        load_identity(tmp_path / "certificate.pem", tmp_path / "key.pem", datetime.now(UTC))


def test_a_link_to_a_file_for_tls_is_followed(tmp_path: Path) -> None:
    """As tools make them that renew certificates."""
    server = identity()
    for name, content in (("c", server.certificate_pem), ("k", server.private_key_pem)):
        (tmp_path / f"{name}.1").write_bytes(content)
        (tmp_path / name).symlink_to(f"{name}.1")
    found = load_identity(tmp_path / "c", tmp_path / "k", datetime.now(UTC))
    assert found.fingerprint == server.fingerprint


@pytest.mark.parametrize("what", ["manifest.json", "manifest.sig"])
def test_a_file_that_is_said_to_be_huge_is_not_read(site: Site, what: str) -> None:
    (site.folder / "huge.bundle").mkdir()
    for name in ("manifest.json", "manifest.sig"):
        (site.folder / "huge.bundle" / name).write_bytes(bytes(64))
    os.truncate(site.folder / "huge.bundle" / what, 1 << 40)
    assert ("huge.bundle", "0") in [(each["name"], each["version"]) for each in site.index()]


def test_a_folder_that_does_not_answer_holds_up_no_other_request(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system of the host's own may keep any call for ever, whatever its flags."""
    answer, asked = threading.Event(), threading.Event()
    original = os.scandir

    def scandir(path: Path) -> Any:
        asked.set()
        assert answer.wait(WATCHDOG_S)
        return original(path)

    monkeypatch.setattr("app.serving.repository.os.scandir", scandir)
    with Crowd() as crowd:
        waiting = [crowd.ask(site.index) for _ in range(5)]
        assert asked.wait(WATCHDOG_S)
        with site.residence.changed:
            assert site.residence.loading.acquire(blocking=False), "nobody holds it meanwhile"
            site.residence.loading.release()
        assert infer(site.client()).status_code == 200
        answer.set()
        for each in waiting:
            assert each.result(WATCHDOG_S)[0]["state"] == "READY"


# --- the same version, another bundle ----------------------------------------------------------


def test_an_exchanged_bundle_of_the_same_version_shows_in_every_answer(
    chain_folder: ModelFolder, tmp_path: Path
) -> None:
    """Both are the owner's; a client that knows which one he released sees the other."""
    ids = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        bundle = folders.make_bundle(chain_folder, folder / "a.bundle", version=3)
        ids.append(folders.read_manifest_text(bundle)["bundle_id"])
        found = Site(folder).start()
        client = found.client()
        shown = {
            infer(client).get_json()["parameters"]["bundle_id"],
            client.get("/v2/models").get_json()["models"][0]["properties"]["bundle_id"],
            client.get("/v2/models/chain").get_json()["properties"]["bundle_id"],
            client.get("/v2/models/chain/versions/3").get_json()["properties"]["bundle_id"],
            found.index()[0]["parameters"]["bundle_id"],
        }
        assert shown == {ids[-1]}
        found.catalogue.close()
    assert ids[0] != ids[1]


def test_a_bundle_that_is_exchanged_while_it_serves(site: Site, chain_folder: ModelFolder) -> None:
    """What is loaded stays what it was, and is called that; unloaded, the other is called so."""
    before = infer(site.client()).get_json()["parameters"]["bundle_id"]
    bundle = folders.make_bundle(chain_folder, site.folder / "a.bundle", version=3)
    now = folders.read_manifest_text(bundle)["bundle_id"]
    assert now != before
    assert site.index()[0]["parameters"]["bundle_id"] == before
    assert infer(site.client()).get_json()["parameters"]["bundle_id"] == before
    site.catalogue.unload("chain")
    site.catalogue.load("chain")
    assert infer(site.client()).get_json()["parameters"]["bundle_id"] == now


# --- time --------------------------------------------------------------------------------------


def test_a_bundle_that_expires_while_it_serves(chain_folder: ModelFolder, tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    period = Period(start, start + timedelta(days=1))
    folders.make_bundle(chain_folder, tmp_path / "a.bundle", version=3, period=period)
    moment = start
    site = Site(tmp_path, lambda: moment).start()
    client = site.client()
    assert infer(client).status_code == 200
    moment = start + timedelta(days=1)
    for answer in (infer(client), client.get("/v2/models/chain/ready")):
        assert answer.status_code == 503
        assert "expired at 2026-01-02T00:00:00Z" in answer.get_json()["error"]
    assert not client.get("/v2/models").get_json()["models"][0]["ready"]
    states = {(each["name"], each["version"]): each["state"] for each in site.index()}
    assert states == {("a.bundle", "0"): "UNAVAILABLE", ("chain", "3"): "UNAVAILABLE"}
    assert client.post("/v2/repository/models/chain/load").status_code == 404
    period = Period(moment, moment + timedelta(days=1))
    folders.make_bundle(chain_folder, tmp_path / "b.bundle", version=4, period=period)
    assert client.post("/v2/repository/models/chain/load").status_code == 200
    assert infer(client).get_json()["model_version"] == "4"
    site.catalogue.close()


# --- what may pass -----------------------------------------------------------------------------


def test_a_key_that_could_not_be_read_once(chain_folder: ModelFolder, tmp_path: Path) -> None:
    """The model comes back by itself, and a folder that keeps failing is asked ever more seldom."""
    folders.make_bundle(chain_folder, tmp_path / "a.bundle", version=3)
    site = Site(tmp_path)
    site.key_file.unlink()
    with pytest.raises(KeyUnavailableError):
        site.start()
    client, tries = site.client(), []
    original = site.keys.model_key

    def counted(model_id: str) -> bytes:
        tries.append(site.clock_ns)
        return original(model_id)

    site.keys.model_key = counted  # type: ignore[method-assign]
    for tenth in range(160):
        site.clock_ns = tenth * 100_000_000
        answer = infer(client)
        assert answer.status_code == 503
        assert answer.get_json() == {"error": "the model's key can't be had"}
    assert [round(at / 1e9) for at in tries] == [1, 3, 7, 15]
    (entry,) = site.index()
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "the model's key can't be had")
    site.key_file.write_bytes(KEYS.model_key)
    assert infer(client).status_code == 503, "not before its time"
    site.clock_ns = 31_000_000_000
    assert infer(client).status_code == 200
    site.catalogue.close()


@pytest.mark.parametrize("content", [b"", KEYS.model_key[:31], KEYS.model_key + b"\n"])
def test_a_key_that_is_being_written(
    chain_folder: ModelFolder, tmp_path: Path, content: bytes
) -> None:
    folders.make_bundle(chain_folder, tmp_path / "a.bundle", version=3)
    site = Site(tmp_path)
    site.key_file.write_bytes(content)
    with pytest.raises(KeyUnavailableError):
        site.start()
    site.key_file.write_bytes(KEYS.model_key)
    site.clock_ns = 2_000_000_000
    assert infer(site.client()).status_code == 200
    site.catalogue.close()


def test_a_wrong_key_is_not_tried_again(chain_folder: ModelFolder, tmp_path: Path) -> None:
    """That it is the wrong one was found out; only somebody who loads the model changes that."""
    folders.make_bundle(chain_folder, tmp_path / "a.bundle", version=3)
    site = Site(tmp_path)
    site.key_file.write_bytes(bytes(32))
    with pytest.raises(BundleIntegrityError):
        site.start()
    site.key_file.write_bytes(KEYS.model_key)
    site.clock_ns = 1 << 60
    assert infer(site.client()).status_code == 500
    assert site.client().post("/v2/repository/models/chain/load").status_code == 200
    assert infer(site.client()).status_code == 200
    site.catalogue.close()


CODES = (errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ENOMEM)


class Disk:
    """Fails to open, or to read, the files of some names."""

    def __init__(self, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.code: int | None = None
        self.name = ""
        self._call = call
        self._originals: dict[str, Callable[..., Any]] = {"open": os.open, "pread": os.pread}
        monkeypatch.setattr(f"app.files.os.{call}", self._fail_or_do)

    def _fail_or_do(self, what: Any, *more: Any, **named: Any) -> Any:
        path = what if self._call == "open" else Path(f"/proc/self/fd/{what}").readlink()
        if self.code is not None and Path(path).name.endswith(self.name):
            raise OSError(self.code, os.strerror(self.code))
        return self._originals[self._call](what, *more, **named)


@pytest.fixture(params=["open", "pread"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(request.param, monkeypatch)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("file", [*FILES, "chain.key"])
def test_an_io_error_is_not_called_tampering_and_may_pass(
    chain_folder: ModelFolder, tmp_path: Path, disk: Disk, code: int, file: str
) -> None:
    folders.make_bundle(chain_folder, tmp_path / "a.bundle", version=3)
    disk.code, disk.name = code, file
    site = Site(tmp_path)
    expected = KeyUnavailableError if file == "chain.key" else BundleReadError
    with pytest.raises(expected) as error:
        site.start()
    for part in (file, str(tmp_path), f"I/O error {code}", os.strerror(code)):
        assert part in str(error.value)
    assert str(tmp_path) not in error.value.client_text
    assert str(tmp_path) not in json.dumps(site.index())
    disk.code = None
    site.clock_ns = 2_000_000_000
    site.index()
    assert infer(site.client()).status_code == 200
    site.catalogue.close()


@pytest.mark.parametrize("code", CODES)
def test_an_io_error_while_weights_are_read_for_a_request(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    disk = Disk("pread", monkeypatch)
    disk.code, disk.name = code, "weights.enc"
    answer = infer(site.client())
    assert answer.status_code == 503
    assert answer.get_json() == {"error": "the model's bundle can't be read at the moment"}
    assert f"I/O error {code}" in caplog.text
    assert "weights.enc" in caplog.text
    assert str(BundleIntegrityError()) not in caplog.text
    disk.code = None
    assert infer(site.client()).status_code == 200, "nothing has to be loaded again"


def test_a_folder_that_cannot_be_listed_keeps_what_it_has_shown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.residence.drain(site.model())

    def fail(_: Path) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("app.serving.repository.os.scandir", fail)
    states = {(each["name"], each["version"]): each["state"] for each in site.index()}
    assert states == {("bundle_folder", "0"): "UNAVAILABLE", ("chain", "3"): "READY"}
    assert str(site.folder) not in json.dumps(site.index())
    assert sum(f"{site.folder}: I/O error 5" in line for line in site.said) == 1
    assert infer(site.client()).status_code == 200


def test_clients_see_no_path_of_any_refused_bundle(site: Site, chain_folder: ModelFolder) -> None:
    """Whatever is wrong with them; the operator's lines name the files."""
    for number, edit in enumerate(
        (
            {"format_version": 9},
            {"cpu": "x86-64-v4", "optimization": "all"},
            {"onnxruntime": "0.1", "optimization": "all"},
            {"card_bytes": 99},
        )
    ):
        bundle = folders.make_bundle(
            chain_folder, site.folder / f"{number}.bundle", version=10 + number
        )
        folders.edit_manifest(bundle, lambda manifest, edit=edit: manifest.update(edit))  # type: ignore[misc]
    answers = [site.index()]
    for version in range(10, 14):
        answer = site.client().get(f"/v2/models/chain/versions/{version}")
        assert answer.status_code in (404, 500)
        answers.append(answer.get_json())
    answers.append(site.index())
    assert str(site.folder) not in json.dumps(answers)
    assert [each["state"] for each in site.index() if each["version"] == "3"] == ["READY"]
