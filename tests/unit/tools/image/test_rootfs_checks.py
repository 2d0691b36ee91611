"""Every reason why Occlum would not start a program, or why nobody should ship the image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.tools.image.rootfs import make_fixed_position, make_rootfs, write_script
from tools.image.rootfs_checks import glibc_problems, rootfs_problems
from tools.image.signing import ensure_signing_key

HEAP_BYTES = 300 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_rootfs(tmp_path / "image")


def problems(root: Path, *, heap: int = HEAP_BYTES, keys: tuple[bytes, ...] = ()) -> list[str]:
    return rootfs_problems(root, ["/bin"], heap, keys)


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def test_a_good_one_has_no_problems(root: Path) -> None:
    assert problems(root) == []


@pytest.mark.parametrize(
    ("first_line", "reason"),
    [
        ("#!/usr/bin/env python3\n", "takes no argument"),
        ("#!/opt/interpreter/python3 -u\n", "takes no argument"),
        ("#!/opt/interpreter/python3\r\n", "CR LF"),
        ("#!/" + "x" * 61 + "\n", "must fit in 64 bytes"),
        ("#!/opt/absent/python3\n", "isn't in the image"),
        ("#!opt/interpreter/python3\n", "isn't in the image"),
        ("print('no first line')\n", "neither an ELF executable nor a script"),
    ],
)
def test_first_lines(root: Path, first_line: str, reason: str) -> None:
    write_script(root, first_line)
    assert reason in only(problems(root))


def test_a_first_line_of_64_bytes_with_its_newline_fits(root: Path) -> None:
    folder = "/" + "x" * (64 - len("#!//python3\n"))
    (root / folder.lstrip("/")).mkdir()
    os.link(root / "opt/interpreter/python3", root / f"{folder}/python3".lstrip("/"))
    line = f"#!{folder}/python3\n"
    assert len(line) == 64
    write_script(root, line)
    assert problems(root) == []


def test_a_script_without_the_executable_bit(root: Path) -> None:
    write_script(root, "#!/opt/interpreter/python3\n", mode=0o644)
    assert "give it mode 0755" in only(problems(root))


def test_an_interpreter_without_the_executable_bit(root: Path) -> None:
    (root / "opt/interpreter/python3").chmod(0o644)
    assert "isn't executable" in only(problems(root))


def test_an_interpreter_that_is_a_script(root: Path) -> None:
    (root / "opt/interpreter/python3").write_text("#!/bin/sh\n")
    assert "isn't an ELF executable" in only(problems(root))


def test_an_executable_that_is_not_position_independent(root: Path) -> None:
    make_fixed_position(root / "opt/interpreter/python3")
    found = problems(root)
    assert found
    assert all("position independent (ET_EXEC)" in problem for problem in found)


def test_a_missing_entry_point(root: Path) -> None:
    assert rootfs_problems(root, ["/sbin"], HEAP_BYTES) == ["entry point /sbin isn't in the image"]


def test_an_empty_entry_point(root: Path) -> None:
    (root / "bin" / "app").unlink()
    assert "nothing can be started" in only(problems(root))


def test_a_missing_library_is_named_with_who_needs_it(root: Path) -> None:
    (root / "opt/occlum/glibc/lib/libc.so.6").unlink()
    found = problems(root)
    assert any("python3 needs the library libc.so.6" in problem for problem in found) or any(
        "libpython" in problem and "libc.so.6" in problem for problem in found
    )


def test_a_missing_loader(root: Path) -> None:
    (root / "lib64/ld-linux-x86-64.so.2").unlink()
    assert any("needs the loader /lib64/ld-linux-x86-64.so.2" in item for item in problems(root))


def test_an_executable_larger_than_the_kernel_heap(root: Path) -> None:
    assert any("Occlum can't start it" in problem for problem in problems(root, heap=1000))


def test_a_file_named_like_a_key(root: Path) -> None:
    (root / "etc" / "digits.key").write_bytes(b"x")
    assert "/etc/digits.key is named like a key" in only(problems(root))


def test_a_private_key(root: Path) -> None:
    ensure_signing_key(root / "etc" / "notes.txt")
    assert "/etc/notes.txt holds a private key" in only(problems(root))


def test_an_occlum_image_key(root: Path) -> None:
    (root / "etc" / "image_key").write_text("-".join(["c7"] * 16))
    assert "looks like an Occlum image key" in only(problems(root))


def test_a_model_key_under_another_name(root: Path) -> None:
    key = bytes(range(32))
    (root / "etc" / "innocent").write_bytes(b"before" + key + b"after")
    assert "holds one of the model keys" in only(problems(root, keys=(key,)))
    assert problems(root, keys=(bytes(32),)) == []


def test_set_user_id_files(root: Path) -> None:
    (root / "bin" / "app").chmod(0o4755)
    assert "set-user-id" in only(problems(root))


def test_sockets_and_pipes(root: Path) -> None:
    os.mkfifo(root / "etc" / "pipe")
    assert "/etc/pipe is neither a file nor a folder nor a link" in only(problems(root))


def test_file_names_that_are_not_utf8(root: Path) -> None:
    Path(os.fsdecode(bytes(root / "etc") + b"/\xff")).write_text("x")
    assert "must be UTF-8" in only(problems(root))


def test_all_problems_are_listed_at_once(root: Path) -> None:
    write_script(root, "#!/usr/bin/env python3\n")
    (root / "etc" / "digits.key").write_bytes(b"x")
    make_fixed_position(root / "opt/interpreter/python3")
    os.mkfifo(root / "etc" / "pipe")
    assert len(problems(root)) == 4


def test_a_newer_glibc_than_occlums(root: Path) -> None:
    assert glibc_problems(root, ceiling=(9, 0)) == []
    assert any("needs glibc 2." in problem for problem in glibc_problems(root, ceiling=(2, 1)))
