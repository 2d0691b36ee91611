from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import KeyUnavailableError
from app.keys import FolderKeySource


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "expected 32 bytes .* got 0"),
        (b"secret" * 5, "got 30"),
        (b"secret" * 6, "got more"),
    ],
)
def test_key_that_is_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "m.key").write_bytes(content)
    with pytest.raises(KeyUnavailableError, match=said) as error:
        FolderKeySource(tmp_path).model_key("m")
    assert "secret" not in str(error.value).replace(str(tmp_path), "")


def test_key_of_the_model_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_bytes(b"a" * 32)
    (tmp_path / "b.key").write_bytes(b"b" * 32)
    assert FolderKeySource(tmp_path).model_key("b") == b"b" * 32
