"""Running an image from Python; `tests/image` runs real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.errors import ImageBuildError
from tools.image import appliance
from tools.image.appliance import running_image

READY = """#!/bin/sh
echo "loading"
echo "-----BEGIN CERTIFICATE-----"
echo "AAAA"
echo "-----END CERTIFICATE-----"
echo "ready on 127.0.0.1 port 4711"
echo "afterwards"
exec sleep 60
"""


@pytest.fixture
def occlum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes the place of the occlum command."""
    path = tmp_path / "occlum"
    monkeypatch.setattr(appliance.shutil, "which", lambda _: str(path))  # type: ignore[attr-defined]
    return path


def test_a_running_image_tells_port_and_certificate_and_ends(occlum: Path, tmp_path: Path) -> None:
    occlum.write_text(READY)
    occlum.chmod(0o755)
    with running_image(tmp_path, tmp_path / "log") as running:
        assert running.port == 4711
        assert running.certificate.splitlines()[1] == "AAAA"
        assert Path(f"/proc/{running.process_id}").exists()
    assert not Path(f"/proc/{running.process_id}").exists()
    assert (tmp_path / "log").read_text().startswith("loading\n")


def test_an_image_that_does_not_start_says_why(occlum: Path, tmp_path: Path) -> None:
    occlum.write_text("#!/bin/sh\necho 'error: no such model' >&2\nexit 1\n")
    occlum.chmod(0o755)
    with (
        pytest.raises(ImageBuildError, match="no such model"),
        running_image(tmp_path, tmp_path / "log"),
    ):
        pytest.fail("it isn't ready")
