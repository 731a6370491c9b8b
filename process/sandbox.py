"""Sandbox for untrusted commands: bubblewrap (`bwrap`) gives a command its own view of the machine.

The command sees programs, libraries and its given files, all read only, and writable folders of its own. It has no
network, no other processes, no home folder, no configuration of the machine and no way to gain rights. A seccomp filter
refuses system calls that no computation needs and that kernel exploits use. It is a classic BPF program as described in
`linux/filter.h` and `seccomp(2)`: a refused call fails with EPERM, and a call of another architecture (32 bits on a
64-bit kernel) kills the process.

The sandbox needs `bwrap` 0.8 or newer and a kernel that permits user namespaces; many containers do not permit them.
`INFAAS_STEP_SANDBOX` sets the behaviour without it: `auto` runs the command with a warning, `required` refuses to run
it, `off` never uses a sandbox. `INFAAS_STEP_FOLDERS` names further readable folders, separated by colons, for instance
the libraries of a vendor.
"""

import functools
import logging
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from process.module_names import CODE_FOLDER
from schemas.errors import OperatorError

log = logging.getLogger(__name__)
MODE_ENV: Final = "INFAAS_STEP_SANDBOX"
FOLDERS_ENV: Final = "INFAAS_STEP_FOLDERS"
TEMPORARY: Final = Path("/tmp")
_PROBE_S: Final = 10.0
_ISOLATED: Final = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--disable-userns", "--die-with-parent", "--cap-drop", "ALL"),
)
_LINKED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Root folders that are links into `/usr` on some systems and folders on others."""
_READABLE: Final = (
    *("/usr", "/sys", "/nix/store", "/opt/nvidia", "/opt/rocm", "/opt/intel", "/opt/aws", "/etc/alternatives"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"),
    *("/etc/localtime", "/etc/OpenCL", "/etc/vulkan"),
)
_FOLDER_LISTS: Final = ("PYTHONPATH", "LD_LIBRARY_PATH", FOLDERS_ENV)
_DEVICES: Final = ("nvidia*", "dri", "kfd", "accel", "neuron*")
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


class SandboxMode(StrEnum):
    """Behaviour where no sandbox is available."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class SandboxFiles(NamedTuple):
    """Files of the machine that a command sees."""

    readable: Sequence[Path]
    """Files and folders that it can read, at the same paths as outside."""
    writable: Mapping[Path, Path]
    """Writable folders, by the path inside the sandbox."""
    devices: bool = False
    """True if it sees accelerators."""


def sandbox_mode(environment: Mapping[str, str] = os.environ) -> SandboxMode:
    """Return the mode that the environment sets; raise `OperatorError` for an invalid one."""
    asked = environment.get(MODE_ENV, SandboxMode.AUTO)
    try:
        return SandboxMode(asked)
    except ValueError:
        raise OperatorError(f"{MODE_ENV}={asked!r}: write {', '.join(SandboxMode)}") from None


@functools.cache
def sandbox_obstacle() -> str:
    """Return the reason why no sandbox is available, or an empty text.

    The first call tests a sandbox, which blocks for some hundredths of a second; the result is cached.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no supported sandbox"
    if shutil.which("bwrap") is None:
        return "bwrap is not installed (package bubblewrap)"
    with tempfile.TemporaryDirectory(prefix="infaas-probe-") as folder:
        words = ("-I", "-S", "-c", "")
        command = sandboxed((sys.executable, *words), SandboxFiles((), {TEMPORARY: Path(folder)}))
        try:
            with syscall_filter() as (descriptor, options):
                probe = [*command[:1], *options, *command[1:]]
                subprocess.run(
                    probe, check=True, capture_output=True, timeout=_PROBE_S, pass_fds=(descriptor,) if options else ()
                )
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            return f"bwrap fails: {said[-1][:200] if said else f'exit code {error.returncode}'}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bwrap fails: {error}"
    return ""


def has_sandbox() -> bool:
    """Return true if steps run in a sandbox. The first call blocks.

    Raises:
        OperatorError: a sandbox is required but not available.
    """
    mode = sandbox_mode()
    obstacle = sandbox_obstacle() if mode is not SandboxMode.OFF else ""
    if mode is SandboxMode.REQUIRED and obstacle:
        raise OperatorError(f"{MODE_ENV}=required, but no sandbox is available: {obstacle}")
    if obstacle:
        warn_once(obstacle)
    return mode is not SandboxMode.OFF and not obstacle


def missing_sandbox() -> str:
    """Return the reason why steps run without a sandbox, or an empty text. The first call blocks."""
    return f"{MODE_ENV}=off" if sandbox_mode() is SandboxMode.OFF else sandbox_obstacle()


@functools.cache
def warn_once(obstacle: str) -> None:
    """Log once for each obstacle that steps run without a sandbox."""
    log.warning(
        "registration steps run without a sandbox: %s. They have this user's permissions and can reach the network; "
        "see docs/security.md",
        obstacle,
    )


def sandboxed(command: Sequence[str], files: SandboxFiles) -> list[str]:
    """Return the command line that runs `command` in a sandbox; `files` must include `TEMPORARY` if it writes there."""
    here = str(Path.cwd())  # so that relative paths stay valid inside
    return [
        shutil.which("bwrap") or "bwrap",
        *_ISOLATED,
        *_mounts(files),
        "--dir",
        here,
        "--chdir",
        here,
        "--",
        *command,
    ]


def _mounts(files: SandboxFiles) -> Iterator[str]:
    yield from ("--proc", "/proc", "--dev", "/dev")
    for name in _LINKED:
        place = Path("/", name)
        if place.is_symlink():
            yield from ("--symlink", os.readlink(place), str(place))
        elif place.exists():
            yield from ("--ro-bind", str(place), str(place))
    for inside, folder in files.writable.items():
        yield from ("--bind", str(folder), str(inside))
    for place in dict.fromkeys((*map(Path, _READABLE), *_libraries(*map(_folders, _FOLDER_LISTS)), *files.readable)):
        if place.exists():
            yield from ("--ro-bind", str(place), str(place))
    if files.devices:
        for pattern in _DEVICES:
            for device in Path("/dev").glob(pattern):
                yield from ("--dev-bind", str(device), str(device))


@functools.cache
def _libraries(wanted: tuple[Path, ...], libraries: tuple[Path, ...], more: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return folders of Python, packages and our code; never one with other files, such as a checkout's root."""
    prefixes = {Path(one) for one in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)}
    prefixes |= {Path(os.path.realpath(sys.executable)).parents[1]}
    packages = [Path(one) for one in sys.path if Path(one).name in ("site-packages", "dist-packages")]
    code = [entry for folder in (CODE_FOLDER, *wanted) for entry in _code_within(folder)]
    found = [*prefixes, *packages, *code, *libraries, *more]
    return tuple(sorted(one.absolute() for one in found if not one.is_relative_to("/usr")))


def _folders(variable: str) -> tuple[Path, ...]:
    return tuple(Path(one) for one in os.environ.get(variable, "").split(os.pathsep) if one)


def _code_within(folder: Path) -> Iterator[Path]:
    """Yield packages and modules directly in a folder."""
    if folder.is_dir():
        yield from (entry for entry in folder.iterdir() if (entry / "__init__.py").exists() or entry.suffix == ".py")


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
