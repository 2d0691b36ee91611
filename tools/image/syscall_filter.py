"""The stand-in's system call filter: answers as Occlum would, where a filter can tell.

Numbers come from syscalls.json, a table of what Occlum 0.31.0 implements. What
Occlum doesn't implement answers ENOSYS; a number that is absent from its table
answers EINVAL, which is also this filter's default.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("syscalls.json")

_INT = 0xFFFFFFFF
"""Arguments of type int: the upper half of the register means nothing."""

_THREAD = 0x00010000 | 0x100 | 0x200 | 0x400 | 0x800 | 0x40000 | 0x80000
"""CLONE_THREAD, VM, FS, FILES, SIGHAND, SYSVSEM, SETTLS: all of them or EINVAL."""

_VFORK = 0x100 | 0x4000
"""CLONE_VM | CLONE_VFORK: how the host's posix_spawn starts a program."""

_FORK = 0x01000000 | 0x00200000 | int(signal.SIGCHLD)
"""CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD: how the host's fork() calls clone."""

_MMAP_FLAGS = 0x1FF933
"""All flags of mmap that Occlum knows, MAP_SHARED to MAP_FIXED_NOREPLACE."""

_O_TMPFILE = 0x400000
_MS_INVALIDATE = 2
_GETRANDOM_FLAGS = 3
_SOCK_TYPE = 0xF
_AF_UNIX = 1
_SOCK_STREAM = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the filter.

    Attributes:
        name: system call.
        answer: an errno, 0 for success without effect, None to let it through.
        conditions: (argument, mask, value) that must all hold.
    """

    name: str
    answer: int | None
    conditions: tuple[tuple[int, int, int], ...] = ()


DEVIATIONS = (
    (
        "clone with fork()'s flags",
        "ENOSYS",
        "Occlum's glibc answers fork() itself; the host's asks",
    ),
    ("clone VM|VFORK", "allowed", "the host's posix_spawn uses it; Occlum's has call 359 for that"),
    ("clone3 in the image's libc", "ENOSYS", "the copy of libc is patched: Occlum's has no clone3"),
    (
        "a program's own clone",
        "starts a thread",
        "Occlum looks for the first instruction on the new stack, where only its libc puts it",
    ),
    ("futex WAIT by CLOCK_REALTIME", "ENOSYS", "Occlum takes it when no timeout is given"),
    ("vfork", "other threads run on", "Occlum freezes them until the child starts its program"),
    ("threads", "EAGAIN above the limit", "besides the supervisor's kill, where the kernel counts"),
    ("brk", "unbounded", "Occlum bounds it by process.default_heap_size"),
    ("memory", "per process", "RLIMIT_AS counts one process; Occlum counts all together"),
    ("mmap", "lazy, shared", "Occlum reads files in whole; shared mappings are private copies"),
    ("/proc", "complete", "Occlum lacks status, statm, mounts, environ, limits, uptime, sys, …"),
    ("/dev/sgx", "absent", "there is no enclave to ask"),
    ("uname", "Linux", "Occlum says Occlum"),
    ("signals", "SA_RESTART works", "Occlum ignores that flag"),
    ("AF_UNIX sockets", "in the sandbox", "errno of other types than SOCK_STREAM is a guess"),
    ("environment", "OCCLUM_STAND_IN, PWD", "the mark of the simulation, and bubblewrap's own"),
    ("user", "uid 0 without rights", "chown and mount fail with EPERM"),
)
"""Where the stand-in differs from Occlum: what, how, and why."""


def rules() -> list[Rule]:
    """All rules, from the table and for arguments."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    by_argument = list(_argument_rules())
    special = {rule.name for rule in by_argument}
    plain = [Rule(name, None) for name in table["supported"] if name not in special]
    unsupported = [Rule(name, errno.ENOSYS) for name in table["unsupported_enosys"]]
    return [*plain, *unsupported, *by_argument]


def _argument_rules() -> Iterator[Rule]:
    yield Rule("clone", None, ((0, _THREAD, _THREAD),))
    yield Rule("clone", None, ((0, _INT & ~0xFF, _VFORK),))
    yield Rule("clone", errno.ENOSYS, ((0, _INT, _FORK),))
    yield from _allow("fcntl", 1, (0, 1, 2, 3, 4, 5, 6, 7, 1030))
    yield from _allow("prctl", 0, (15, 16, 30))
    yield from _allow("arch_prctl", 0, (0x1002, 0x1003, 0x1023))
    yield from _allow("mremap", 3, (0, 1, 3))
    yield from _allow("clock_gettime", 0, range(8))
    yield from _allow("ioctl", 1, _ioctls())
    yield Rule("msync", None, ((2, _MS_INVALIDATE, 0),))
    yield Rule("mmap", None, ((3, _INT & ~_MMAP_FLAGS, 0),))
    yield Rule("getrandom", None, ((2, _INT & ~_GETRANDOM_FLAGS, 0),))
    yield from _madvise_rules()
    yield from _futex_rules()
    for name, flags in (("open", 1), ("openat", 2)):
        yield Rule(name, None, ((flags, _O_TMPFILE, 0),))
        yield Rule(name, errno.EISDIR, ((flags, _O_TMPFILE, _O_TMPFILE),))
    yield from _socket_rules()


def _allow(name: str, argument: int, values: Any) -> Iterator[Rule]:
    for value in values:
        yield Rule(name, None, ((argument, _INT, value),))


def _ioctls() -> tuple[int, ...]:
    # TCGETS, TCSETS, TIOCGWINSZ, TIOCSWINSZ, TIOCNOTTY. A file answers ENOTTY to the first, as a
    # program that asks for a terminal expects.
    terminal = (0x5401, 0x5402, 0x5413, 0x5414, 0x5422)
    descriptor = (0x541B, 0x5421, 0x5450, 0x5451)  # FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    # SIOCGIF… NAME, CONF, FLAGS, ADDR, DSTADDR, BRDADDR, NETMASK, MTU, HWADDR, INDEX, PFLAGS,
    # TXQLEN, MAP.
    interface = (0x8910, 0x8912, 0x8913, 0x8915, 0x8917, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933)
    return (*terminal, *descriptor, *interface, 0x8935, 0x8942, 0x8970)


def _madvise_rules() -> Iterator[Rule]:
    # 0 to 4 succeed without any effect: MADV_DONTNEED neither frees nor zeroes.
    for advice in range(5):
        yield Rule("madvise", 0, ((2, _INT, advice),))
    for advice in (8, *range(9, 26), 100, 101):
        yield Rule("madvise", errno.ENOSYS, ((2, _INT, advice),))


def _futex_rules() -> Iterator[Rule]:
    private, realtime = 128, 256
    for operation in (1, 3):  # WAKE, REQUEUE
        yield Rule("futex", None, ((1, _INT & ~(private | realtime), operation),))
    for operation in (9, 10):  # WAIT_BITSET, WAKE_BITSET
        yield Rule("futex", None, ((1, _INT & ~(private | realtime), operation),))
    yield Rule("futex", None, ((1, _INT & ~private, 0),))
    yield Rule("futex", errno.ENOSYS, ((1, _INT & ~private, realtime),))
    for operation in (2, 4, 5, 6, 7, 8):  # FD, CMP_REQUEUE, WAKE_OP, LOCK_PI, UNLOCK_PI, TRYLOCK_PI
        yield Rule("futex", errno.ENOSYS, ((1, _INT & ~(private | realtime), operation),))


def _socket_rules() -> Iterator[Rule]:
    for domain in (2, 10, 16):  # AF_INET, AF_INET6, AF_NETLINK
        yield Rule("socket", None, ((0, _INT, domain),))
    yield Rule("socket", None, ((0, _INT, _AF_UNIX), (1, _SOCK_TYPE, _SOCK_STREAM)))
    yield Rule("socketpair", None, ((0, _INT, _AF_UNIX), (1, _SOCK_TYPE, _SOCK_STREAM)))


def open_filter() -> int:
    """Compiles the filter for bubblewrap.

    Returns:
        A descriptor, at its start, that holds the BPF program; the caller closes it.

    Raises:
        RuntimeError: libseccomp isn't installed.
    """
    import pyseccomp  # noqa: PLC0415 - looks for the system's library when it is imported

    filter_ = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EINVAL))
    # A tree in place of a list: with 350 rules every call would walk a long way.
    filter_.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
    for rule in rules():
        action = pyseccomp.ALLOW if rule.answer is None else pyseccomp.ERRNO(rule.answer)
        conditions = [
            pyseccomp.Arg(argument, pyseccomp.MASKED_EQ, mask, value)
            for argument, mask, value in rule.conditions
        ]
        filter_.add_rule(action, _number(pyseccomp, rule.name), *conditions)
    descriptor = os.memfd_create("filter", 0)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        filter_.export_bpf(file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _number(pyseccomp: Any, name: str) -> int:
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))
