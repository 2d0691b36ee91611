"""Which AES the libraries use, asked of the libraries, under what CPUID could be made to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from app.aes import VARIABLE, aes_problems, has_instructions, table_driven
from app.config import TLS_LIBRARIES
from tests.integration.appliance import ROOT

TEMPLATE = json.loads((ROOT / "occlum_image" / "Occlum.json").read_text())
MEASURED = dict(item.split("=", 1) for item in TEMPLATE["env"]["default"])
AES, PCLMULQDQ, SSSE3 = 1 << 57, 1 << 33, 1 << 41

ASK = """
from app.aes import table_driven, _vector_of_cryptography, _vector_of_ssl
for library in ("openssl", "mbedtls"):
    print(*table_driven(library), sep=",")
print(_vector_of_cryptography().decode())
print(_vector_of_ssl().decode())
"""


def ask(capabilities: str) -> list[str]:
    """Starts a process whose OpenSSL takes this instead of CPUID."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, VARIABLE: capabilities},
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "capabilities", ["0x0", f"~{AES:#x}", f"~{PCLMULQDQ:#x}", f"~{SSSE3:#x}", f"{AES:#x}:0x0"]
)
def test_a_cpu_that_is_said_to_lack_an_instruction_is_found(capabilities: str) -> None:
    with_openssl, with_mbedtls, *_ = ask(capabilities)
    assert with_openssl == "cryptography,ssl"
    assert "cryptography" in with_mbedtls.split(",")


def test_what_the_image_measures_is_what_both_libraries_take() -> None:
    """Without a "~" CPUID isn't asked: both have exactly these bits, and one of OpenSSL's own."""
    first, second = (int(part, 16) for part in MEASURED[VARIABLE].split(":"))
    with_openssl, _, *vectors = ask(MEASURED[VARIABLE])
    assert with_openssl == ""
    assert len(vectors) == 2
    for vector in vectors:
        taken = [int(part, 16) for part in vector.split("=")[1].split()[0].split(":")]
        assert taken[:2] == [first | 1 << 10, second]
        assert not any(taken[2:])


def test_what_the_image_measures_asks_for_no_more_than_it_says() -> None:
    """The class of CPU that occlum_image/README.md names: AVX2, without AVX-512, VAES and SHA."""
    first, second = (int(part, 16) for part in MEASURED[VARIABLE].split(":"))
    names = {33: "PCLMULQDQ", 41: "SSSE3", 54: "MOVBE", 57: "AES-NI", 60: "AVX", 62: "RDRAND"}
    assert {bit for bit in range(32, 64) if first >> bit & 1} == {*names, 58, 59}  # XSAVE, OSXSAVE
    assert {bit for bit in range(64) if second >> bit & 1} == {3, 5, 8, 19}  # BMI1, AVX2, BMI2, ADX
    text = (ROOT / "occlum_image" / "README.md").read_text(encoding="utf-8")
    assert MEASURED[VARIABLE] in text
    assert all(name in text for name in (*names.values(), "AVX2", "BMI1", "BMI2", "ADX"))


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (f"CPUINFO: OPENSSL_ia32cap={AES | PCLMULQDQ | SSSE3:#x}:0x0".encode(), True),
        (f"OPENSSL_ia32cap={AES | PCLMULQDQ | SSSE3:#X}".replace("0X", "0x").encode(), True),
        (b"OPENSSL_ia32cap=0xffffffffffffffff", True),
        (f"OPENSSL_ia32cap=0x0:{AES | PCLMULQDQ | SSSE3:#x}".encode(), False),
        (f"OPENSSL_ia32cap=~{AES:#x}".encode(), False),
        (b"OPENSSL_ia32cap=", False),
        (b"CPUINFO: N/A", False),
        (b"", False),
    ],
)
def test_what_a_text_says(text: bytes, has: bool) -> None:
    assert has_instructions(text) is has


@pytest.mark.parametrize("library", TLS_LIBRARIES)
def test_mbedtls_counts_only_where_it_is_used(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.aes._mbedtls_has_instructions", lambda: False)
    assert ("mbedtls" in table_driven(library)) is (library == "mbedtls")


def test_what_is_found_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.aes.table_driven", lambda _: ())
    assert aes_problems("openssl") == {}
    monkeypatch.setattr("app.aes.table_driven", lambda _: ("cryptography", "ssl"))
    ((name, what),) = aes_problems("openssl").items()
    assert name == "insecure_table_driven_aes"
    assert what.startswith("cryptography, ssl may run AES on tables")
    assert VARIABLE in what


def test_nothing_of_the_image_is_told_by_the_hosts_environment() -> None:
    """Python, OpenSSL, onnxruntime and the loader read variables: each is measured, or unset."""
    assert TEMPLATE["env"]["untrusted"] == []
    assert MEASURED["PYTHONSAFEPATH"] == MEASURED["PYTHONNOUSERSITE"] == "1"
    assert MEASURED["PYTHONHOME"] == "/opt/python-occlum"
    assert MEASURED["TMPDIR"] == "/tmp"
    reads_files = {"PYTHONPATH", "PYTHONSTARTUP", "OPENSSL_CONF", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    assert not reads_files & set(MEASURED)
    assert not [name for name in MEASURED if name.startswith("LD_")]
    assert not [name for name in MEASURED if "STAND_IN" in name]
