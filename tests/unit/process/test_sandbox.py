"""Tests of a sandbox: its visible files, and the filter of its system calls."""

import struct
from pathlib import Path

import pytest

from process.sandbox import SandboxFiles, filter_program, sandboxed

_ALLOWED, _REFUSED, _KILLED = 0x7FFF0000, 0x00050001, 0x80000000


def _verdict(program: bytes, architecture: int, number: int) -> int:
    """Execute a filter as the kernel does, and return its verdict."""
    instructions = [struct.unpack("=HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    at, accumulator = 0, 0
    while True:
        code, yes, no, value = instructions[at]
        at += 1
        match code:
            case 0x20:
                accumulator = {0: number, 4: architecture}[value]
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case _:
                return value


@pytest.mark.parametrize(
    ("machine", "architecture", "number", "verdict"),
    [
        ("x86_64", 0xC000003E, 0, _ALLOWED),  # read
        ("x86_64", 0xC000003E, 101, _REFUSED),  # ptrace
        ("x86_64", 0xC000003E, 425, _REFUSED),  # io_uring_setup
        ("x86_64", 0xC000003E, 0x40000000, _REFUSED),  # read, by the x32 ABI
        ("x86_64", 0x40000003, 11, _KILLED),  # i386
        ("aarch64", 0xC00000B7, 63, _ALLOWED),  # read
        ("aarch64", 0xC00000B7, 117, _REFUSED),  # ptrace
        ("aarch64", 0xC00000B7, 101, _ALLOWED),  # nanosleep
    ],
)
def test_filter_program_judges_system_calls(machine: str, architecture: int, number: int, verdict: int) -> None:
    assert _verdict(filter_program(machine), architecture, number) == verdict


def test_sandboxed_hides_home_and_checkout(tmp_path: Path) -> None:
    """Only packages of the checkout are visible, since a home may lie in it."""
    command = sandboxed(["python"], SandboxFiles([tmp_path], {Path("/tmp"): tmp_path}))
    shown = {command[at + 1] for at, word in enumerate(command) if word == "--ro-bind"}
    root = Path(__file__).parents[3]
    assert {str(tmp_path), str(root / "registry"), "/usr"} <= shown
    assert not {"/", "/etc", "/home", "/root", "/var", "/run", "/tmp", str(root), str(Path.home())} & shown
