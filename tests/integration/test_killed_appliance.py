"""The appliance killed at any moment: nothing is lost but the requests that were under way.

It leaves what it found: it writes no file. Whoever replaces its bundles may be killed as well.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from app.bundle import BundleReader, read_manifest
from tests.folders import KEYS
from tests.integration.appliance import ROOT
from tests.integration.site import WATCHDOG_S, Clients, Site, connected, make_site
from tools.bench.packed import free_port

CLIENTS = 4
WRITE_FOR_EVER = """
import sys
from pathlib import Path
from tests.folders import make_bundle
from tools.model_folder import open_folder

folder, target, version = open_folder(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
while True:
    make_bundle(folder, target, version=version)
    print("written", flush=True)
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path, free_port())
    made.offer(1)
    return made


def kill(process: subprocess.Popen[str]) -> None:
    """Ends a process that is running, as nothing can prepare for."""
    assert process.poll() is None, "it ended by itself"
    process.kill()
    assert process.wait(WATCHDOG_S) == -signal.SIGKILL


def pause(seconds: float) -> None:
    """Lets a moment pass that was drawn; nothing becomes ready meanwhile."""
    threading.Event().wait(seconds)


def test_killed_while_it_starts(site: Site) -> None:
    """While modules, keys, bundles and models are read, and just before it listens."""
    rng = random.Random(1)
    before = site.state()
    start_s = 0.0
    for said in ("cloister", "model chain", "-----END CERTIFICATE"):
        begun = time.monotonic()
        with site.started() as process:
            assert process.stdout is not None
            assert any(line.startswith(said) for line in process.stdout)
            start_s = time.monotonic() - begun
            kill(process)
        assert site.state() == before
    for _ in range(3):
        with site.started() as process:
            pause(rng.uniform(0, start_s))
            kill(process)
        assert site.state() == before
    assert site.serves() == 1
    assert site.state() == before


def test_killed_while_clients_ask(site: Site) -> None:
    """Answers that came are right, the others are connections that end; the port is free then."""
    rng = random.Random(2)
    before = site.state()
    for _ in range(2):
        with (
            site.serving() as (process, appliance),
            Clients(site, appliance, CLIENTS) as clients,
        ):
            clients.wait_for(rng.randint(1, 60))
            pause(rng.uniform(0, 0.01))
            kill(process)
        assert clients.failures == []
        assert site.state() == before
        with socket.create_server(("127.0.0.1", site.port)):
            pass  # nobody holds it any more
    assert site.serves() == 1


def test_killed_while_it_switches_to_a_new_version(site: Site) -> None:
    """The newest version that is there answers afterwards, whichever did before."""
    rng = random.Random(3)
    for version in (2, 3, 4):
        with (
            site.serving() as (process, appliance),
            Clients(site, appliance, CLIENTS) as clients,
            connected(appliance) as operator,
        ):
            clients.wait_for(5)
            assert site.check(site.ask(operator)) == version - 1
            site.offer(version)
            before = site.state()
            switching = threading.Thread(target=_switch, args=(site, operator))
            switching.start()
            pause(rng.uniform(0, 0.03))
            kill(process)
            switching.join(WATCHDOG_S)
        assert clients.failures == []
        assert site.state() == before
    assert site.serves() == 4


def test_a_new_version_half_copied_is_none(site: Site) -> None:
    """A copy by another name, and one that was cut off by its own name."""
    for version in (2, 3):
        site.offer(version)
    copying = (site.bundles / "2.bundle").rename(site.bundles / "copying")
    largest = max(site.bundles.glob("3.bundle/*.enc"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert site.serves() == 1
    copying.rename(site.bundles / "2.bundle")
    assert site.serves() == 2


def test_killed_writers_leave_a_bundle_that_serves(site: Site) -> None:
    """Beside an appliance that asks for it all the time, and for one that starts then."""
    rng = random.Random(4)
    target = site.bundles / "2.bundle"
    with (
        site.serving() as (process, appliance),
        Clients(site, appliance, 1) as clients,
        connected(appliance) as operator,
    ):
        for _ in range(2):
            _kill_a_writer(site, target, rng)
            manifest = read_manifest(target, KEYS.owner.public_key(), minimum_version=2)
            BundleReader(target, manifest, KEYS.model_key).verify()
            site.ask(operator, site.load)
            assert site.check(site.ask(operator)) == 2
        kill(process)
    assert clients.failures == []
    assert site.serves() == 2
    site.offer(2)
    assert sorted(path.name for path in site.bundles.iterdir()) == ["1.bundle", "2.bundle"], (
        "the next writer tidies up"
    )


def _switch(site: Site, operator: HTTPSConnection) -> None:
    with suppress(OSError, HTTPException):  # the end of the appliance
        site.ask(operator, site.load)


def _kill_a_writer(site: Site, target: Path, rng: random.Random) -> None:
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(site.model(2).path), str(target), "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(rng.randint(1, 3)):
            assert writer.stdout.readline() == "written\n"
        pause(rng.uniform(0, 0.05))
        kill(writer)
