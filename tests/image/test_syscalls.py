"""A program in the image gets from the kernel what it would get from Occlum."""

from __future__ import annotations

import json
import platform

import pytest

from tests.image.instances import TestInstance

pytestmark = pytest.mark.usefixtures("sandbox")

CALLS = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "ok"

"""


def answers(instance: TestInstance, calls: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Makes raw system calls in the image."""
    code = f"{CALLS}print(json.dumps({{n: call(*c) for n, c in {calls!r}.items()}}))"
    done = instance.probe(code)
    assert done.status == 0, done.err
    found: dict[str, str] = json.loads(done.out)
    return found


def test_unsupported_calls_answer_as_in_occlum(built: TestInstance) -> None:
    assert platform.machine() == "x86_64"
    calls = {
        "fork": (57,),
        "memfd_create": (319, 0, 0),
        "statx": (332, 0, 0, 0, 0, 0),
        "getrusage": (98, 0, 0),
        "signalfd": (282, -1, 0, 8),
        "waitid": (247, 0, 0, 0, 0, 0),
        "membarrier": (324, 0, 0),
        "clone3": (435, 0, 0),
        "close_range": (436, 100, 200, 0),
        "pidfd_open": (434, 1, 0),
        "io_uring_setup": (425, 1, 0),
        "epoll_pwait2": (441, 0, 0, 0, 0, 0),
        "a number of no call": (998,),
    }
    absent = {"clone3", "close_range", "pidfd_open", "io_uring_setup", "epoll_pwait2"}
    expected = {
        name: "EINVAL" if name in absent or name == "a number of no call" else "ENOSYS"
        for name in calls
    }
    assert answers(built, calls) == expected


def test_arguments_that_occlum_does_not_know(built: TestInstance) -> None:
    anonymous, private = 0x20, 0x2
    calls = {
        "clone without CLONE_VM": (56, 0x10000 | 17, 0, 0, 0, 0),
        "clone as fork() does": (56, 0x01200011, 0, 0, 0, 0),
        "fcntl F_ADD_SEALS": (72, 1, 1033, 0),
        "fcntl F_GETFD": (72, 1, 1, 0),
        "prctl PR_SET_DUMPABLE": (157, 4, 1, 0, 0, 0),
        "getrandom GRND_INSECURE": (318, 0, 0, 4),
        "getrandom": (318, 0, 0, 1),
        "mmap MAP_32BIT": (9, 0, 4096, 3, anonymous | private | 0x40, -1, 0),
        "mmap": (9, 0, 4096, 3, anonymous | private, -1, 0),
        "madvise MADV_FREE": (28, 0, 0, 8),
        "madvise MADV_DONTNEED": (28, 1, 4096, 4),
        "futex FUTEX_LOCK_PI": (202, 0, 6, 0, 0, 0, 0),
        "futex FUTEX_WAIT with realtime": (202, 0, 256, 0, 0, 0, 0),
        "socket AF_UNIX datagram": (41, 1, 2, 0),
        "socket AF_UNIX stream": (41, 1, 1, 0),
        "socket AF_PACKET": (41, 17, 3, 0),
        "clock_gettime of a process": (228, -6, 0),
        "ioctl TCGETS of a file": (16, 0, 0x5401, 0),
        "ioctl TIOCGPGRP": (16, 0, 0x540F, 0),
        "ioctl TIOCGSID": (16, 0, 0x5429, 0),
        "ioctl TCSETS of a file": (16, 0, 0x5402, 0),
        "ioctl TIOCSTI": (16, 0, 0x5412, 0),
        "ioctl SIOCGIFTXQLEN of a file": (16, 0, 0x8942, 0),
    }
    assert answers(built, calls) == {
        "clone without CLONE_VM": "EINVAL",
        "clone as fork() does": "ENOSYS",
        "fcntl F_ADD_SEALS": "EINVAL",
        "fcntl F_GETFD": "ok",
        "prctl PR_SET_DUMPABLE": "EINVAL",
        "getrandom GRND_INSECURE": "EINVAL",
        "getrandom": "ok",
        "mmap MAP_32BIT": "EINVAL",
        "mmap": "ok",
        "madvise MADV_FREE": "ENOSYS",
        "madvise MADV_DONTNEED": "ok",
        "futex FUTEX_LOCK_PI": "ENOSYS",
        "futex FUTEX_WAIT with realtime": "ENOSYS",
        "socket AF_UNIX datagram": "EINVAL",
        "socket AF_UNIX stream": "ok",
        "socket AF_PACKET": "EINVAL",
        "clock_gettime of a process": "EINVAL",
        "ioctl TCGETS of a file": "ENOTTY",
        "ioctl TIOCGPGRP": "EINVAL",
        "ioctl TIOCGSID": "EINVAL",
        "ioctl TCSETS of a file": "ENOTTY",
        "ioctl TIOCSTI": "EINVAL",
        "ioctl SIOCGIFTXQLEN of a file": "ENOTTY",
    }


def test_dont_need_neither_frees_nor_zeroes(built: TestInstance) -> None:
    done = built.probe(
        "import mmap; m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "m[:4] = b'kept'; m.madvise(mmap.MADV_DONTNEED); print(m[:4])"
    )
    assert done.out.strip() == "b'kept'"


def test_threads_start_and_processes_do_not(built: TestInstance) -> None:
    done = built.probe(
        "import os, errno, threading\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "try: os.fork()\n"
        "except OSError as error: print(errno.errorcode[error.errno])"
    )
    assert done.out.split() == ["thread", "ENOSYS"]


@pytest.mark.parametrize("path", ["/home", "/usr", "/var", "/dev/sda", "/dev/tty", "/dev/full"])
def test_nothing_of_the_host_is_there(built: TestInstance, path: str) -> None:
    done = built.probe(f"import os; print(os.path.exists({path!r}))")
    assert done.out.strip() == "False"
