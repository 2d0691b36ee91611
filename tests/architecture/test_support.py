"""No security library is past its support date without a reason that is looked at again.

The tables are in SECURITY.md. This depends on today's date on purpose.
"""

from __future__ import annotations

import datetime
import re
import ssl
import sys
from collections.abc import Mapping, Sequence

import pytest
from cryptography.hazmat.backends.openssl import backend
from mbedtls.version import version as mbedtls_version

from tests.architecture.imports import ROOT
from tests.architecture.test_lock import LOCKED

FROM_THE_LOCK = ("cryptography", "onnxruntime", "pillow", "python-mbedtls")
ROW = re.compile(r"^\| (.+?) \| ([0-9.]+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
DATE = re.compile(r"\d{4}-\d\d-\d\d")

Rows = Mapping[tuple[str, str], tuple[str, datetime.date]]
"""By component and version: the reason or source, and a date."""


def tables(text: str) -> tuple[Rows, Rows]:
    """Reads what is in support until when, and the exceptions with their review."""
    support: dict[tuple[str, str], tuple[str, datetime.date]] = {}
    exceptions: dict[tuple[str, str], tuple[str, datetime.date]] = {}
    for component, version, third, fourth in ROW.findall(text):
        if DATE.fullmatch(third):
            support[component, version] = fourth, datetime.date.fromisoformat(third)
        else:
            exceptions[component, version] = third, datetime.date.fromisoformat(fourth)
    return support, exceptions


def problems(
    support: Rows, exceptions: Rows, pinned: Mapping[str, str], today: datetime.date
) -> list[str]:
    found: list[str] = []
    for component, version in pinned.items():
        series = ".".join(version.split(".")[:2])
        if (component, series) not in support:
            found.append(f"{component} {series} has no row in SECURITY.md")
            continue
        _, end = support[component, series]
        if today <= end:
            continue
        reason, review = exceptions.get((component, series), ("", datetime.date.min))
        if not reason.strip():
            found.append(f"{component} {series} got fixes until {end} only: renew its pin")
        elif today > review:
            found.append(f"{component} {series}: its exception was to be reviewed by {review}")
    return found


def pinned() -> dict[str, str]:
    lock = (ROOT / "occlum_image" / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(LOCKED.findall(lock))
    python = sys.version_info
    in_cryptography = backend.openssl_version_text().split()[1]
    return {
        **{name: locked[name] for name in FROM_THE_LOCK},
        "CPython": f"{python.major}.{python.minor}",
        "Mbed TLS": mbedtls_version.split()[-1],
        "OpenSSL in cryptography": in_cryptography,
        "OpenSSL of the interpreter": ".".join(str(part) for part in ssl.OPENSSL_VERSION_INFO[:2]),
    }


def test_what_is_pinned_is_in_support() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert problems(*tables(text), pinned(), datetime.datetime.now(datetime.UTC).date()) == []


def test_every_exception_is_one() -> None:
    """A row that isn't needed any more goes."""
    support, exceptions = tables((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert set(exceptions) <= set(support)
    for key, (reason, review) in exceptions.items():
        assert len(reason) > 10
        assert review > support[key][1]


TABLES = """
| component | version | fixes until | who says so |
|---|---|---|---|
| A | 1.0 | 2020-01-01 | somebody |
| B | 2.3 | 2030-01-01 | somebody |

| exception | version | reason | review by |
|---|---|---|---|
| A | 1.0 | Nothing newer is there. | 2021-01-01 |
"""


@pytest.mark.parametrize(
    ("versions", "today", "said"),
    [
        ({"B": "2.3.4"}, "2030-01-01", []),
        ({"B": "2.3.4"}, "2030-01-02", ["B 2.3 got fixes until 2030-01-01 only"]),
        ({"B": "2.4.0"}, "2020-01-01", ["B 2.4 has no row"]),
        ({"C": "1"}, "2020-01-01", ["C 1 has no row"]),
        ({"A": "1.0.9"}, "2019-12-31", []),
        ({"A": "1.0.9"}, "2021-01-01", []),
        ({"A": "1.0.9"}, "2021-01-02", ["A 1.0: its exception was to be reviewed by 2021-01-01"]),
        ({"A": "1.0", "B": "2.3"}, "2031-01-01", ["A 1.0: its exception", "B 2.3 got fixes"]),
    ],
)
def test_dates_are_compared(versions: dict[str, str], today: str, said: Sequence[str]) -> None:
    found = problems(*tables(TABLES), versions, datetime.date.fromisoformat(today))
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


def test_mbedtls_isnt_hidden() -> None:
    """Whoever reads the front page learns that the default endpoint gets no fixes."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Mbed TLS 2.28, gets no more fixes" in text
    assert "SECURITY.md" in text
