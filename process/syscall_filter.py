"""A seccomp filter for bubblewrap: refuses system calls that no computation needs and that kernel exploits use.

The filter is a classic BPF program as described in `linux/filter.h` and `seccomp(2)`. A refused call fails with EPERM.
A call of another architecture (32 bits on a 64-bit kernel) kills the process.
"""

import os
import platform
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_LOAD, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32: Final = 0x40000000
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NAMES: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "add_key", "request_key", "keyctl", "bpf", "userfaultfd"),
    *("perf_event_open", "mount", "umount2", "pivot_root", "chroot", "setns", "kexec_load", "init_module"),
    *("delete_module", "acct", "swapon", "swapoff", "reboot", "open_by_handle_at", "quotactl"),
)
_NUMBERS: Final = {
    "x86_64": (
        *(101, 310, 311, 248, 249, 250, 321, 323, 298, 165, 166, 155, 161, 308, 246, 175, 176, 163, 167, 168, 169),
        *(304, 179),
    ),
    "aarch64": (
        *(117, 270, 271, 217, 218, 219, 280, 282, 241, 40, 39, 41, 51, 268, 104, 105, 106, 89, 224, 225, 142, 265, 60),
    ),
}
"""Numbers of the calls above, in their order."""
_EVERYWHERE: Final = (425, 426, 427, 428, 429, 430, 431, 432, 433)
"""Calls with the same numbers on each architecture: io_uring (425 to 427) and mounting (428 to 433)."""


def filter_program(machine: str) -> bytes:
    """Return the filter for a machine named as by `platform.machine`; empty if its call numbers are unknown."""
    if machine not in _ARCHITECTURES:
        return b""
    refused = (*_NUMBERS[machine], *_EVERYWHERE)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUALS, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for number in refused:
        program += [(_EQUALS, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


@contextmanager
def syscall_filter() -> Generator[tuple[int, tuple[str, ...]]]:
    """Yield a descriptor for bubblewrap to inherit and the options that name it; -1 and no options without a filter."""
    program = filter_program(platform.machine())
    if not program:
        yield -1, ()
        return
    reader, writer = os.pipe()
    try:
        os.write(writer, program)  # fits into the pipe's buffer
    finally:
        os.close(writer)
    try:
        yield reader, ("--seccomp", str(reader))
    finally:
        os.close(reader)
