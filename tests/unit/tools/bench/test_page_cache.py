from __future__ import annotations

import secrets
from pathlib import Path

from tools.bench.page_cache import cached_share, make_cold, make_warm


def test_warm_files_need_no_disk_and_cold_ones_keep_their_content(tmp_path: Path) -> None:
    content = secrets.token_bytes(3 << 20)
    path = tmp_path / "file"
    path.write_bytes(content)
    make_warm([path])
    assert cached_share([path]) == 1.0
    make_cold([path])
    # A file system in memory has nothing to forget.
    assert 0.0 <= cached_share([path]) <= 1.0
    assert path.read_bytes() == content


def test_nothing_to_read_is_warm(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert cached_share([]) == cached_share([tmp_path / "empty"]) == 1.0
