"""The appliance on each TLS library: as configured, and with a certificate that is replaced."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import TLS_LIBRARIES
from app.server.certificate import ServerIdentity
from tests.integration.appliance import Appliance, prepare, running
from tests.unit.app.server.clients import identity, new_identity, until

READY = "/v2/health/ready"


def write(folder: Path, certificate: ServerIdentity) -> dict[str, str]:
    files = {"certificate": folder / "server.crt", "private_key": folder / "server.key"}
    files["certificate"].write_bytes(certificate.certificate_pem)
    files["private_key"].write_bytes(certificate.private_key_pem)
    return {name: str(path) for name, path in files.items()}


@pytest.mark.parametrize("library", TLS_LIBRARIES)
def test_a_replaced_certificate_is_served_without_a_restart(tmp_path: Path, library: str) -> None:
    with running(
        prepare(tmp_path, tls=write(tmp_path, identity()), tls_library=library)
    ) as appliance:
        assert appliance.curl(READY).status == 200
        renewal = new_identity()
        write(tmp_path, renewal)
        (tmp_path / "new.crt").write_bytes(renewal.certificate_pem)
        renewed = replace(appliance, certificate=tmp_path / "new.crt")
        until(lambda: answers(renewed))
        assert not answers(appliance), "who trusts the old one alone isn't served any more"


def answers(appliance: Appliance, *arguments: str) -> bool:
    try:
        return appliance.curl(READY, *arguments).status == 200
    except subprocess.CalledProcessError:
        return False


def test_openssl_speaks_1_3_and_mbedtls_does_not(tmp_path: Path) -> None:
    for library in TLS_LIBRARIES:
        folder = tmp_path / library
        folder.mkdir()
        with running(prepare(folder, tls_library=library)) as appliance:
            assert answers(appliance, "--tls-max", "1.2")
            assert answers(appliance, "--tlsv1.3") is (library == "openssl")
