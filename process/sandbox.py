"""Runs a command where it can do no harm: bubblewrap (`bwrap`) gives it an own view of the machine.

Inside there are programs and libraries, read only; the files that the command is given, read only; and folders of its
own. There is no network, no other process, no home, no configuration of the machine, no way to gain rights, and system
calls that a computation never needs are refused (`syscall_filter`).

The sandbox needs `bwrap` 0.8 or newer and a kernel that lets this user make namespaces, which many containers do not.
`INFAAS_STEP_SANDBOX` says what happens without it: `auto` runs the command all the same, with a warning; `required`
runs nothing; `off` never looks for it. `INFAAS_STEP_FOLDERS` names further folders that are readable inside, separated
by colons: a vendor's libraries, say.
"""

import functools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from process.syscall_filter import syscall_filter
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

MODE_ENV: Final = "INFAAS_STEP_SANDBOX"
FOLDERS_ENV: Final = "INFAAS_STEP_FOLDERS"
TEMPORARY: Final = Path("/tmp")
_PROBE_S: Final = 10.0
_ROOT: Final = Path(__file__).parents[1]
_ISOLATED: Final = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--disable-userns", "--die-with-parent", "--cap-drop", "ALL"),
)
_LINKED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders of the root that are links into `/usr`, or folders of their own."""
_READABLE: Final = (
    *("/usr", "/sys", "/nix/store", "/opt/nvidia", "/opt/rocm", "/opt/intel", "/opt/aws", "/etc/alternatives"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"),
    *("/etc/localtime", "/etc/OpenCL", "/etc/vulkan"),
)
_FOLDER_LISTS: Final = ("PYTHONPATH", "LD_LIBRARY_PATH", FOLDERS_ENV)
_DEVICES: Final = ("nvidia*", "dri", "kfd", "accel", "neuron*")


class SandboxMode(StrEnum):
    """What happens where there is no sandbox."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class SandboxFiles(NamedTuple):
    """Files of the machine that a command sees, under the paths that they have outside."""

    readable: Sequence[Path]
    """Files and folders that it may read."""
    writable: Mapping[Path, Path]
    """Folders of its own, by the path at which it sees them."""
    devices: bool = False
    """Whether it sees accelerators."""


def sandbox_mode(environment: Mapping[str, str] = os.environ) -> SandboxMode:
    """The mode that the environment asks for; raises `OperatorError` where it is none."""
    asked = environment.get(MODE_ENV, SandboxMode.AUTO)
    try:
        return SandboxMode(asked)
    except ValueError:
        raise OperatorError(f"{MODE_ENV}={asked!r}: write {', '.join(SandboxMode)}") from None


@functools.cache
def sandbox_obstacle() -> str:
    """Why this process can have no sandbox; empty if it can. Found out once, in some hundredths of a second; blocks."""
    if sys.platform != "linux":
        return f"there is none for {sys.platform}"
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
            return f"bwrap fails here: {said[-1][:200] if said else f'exit code {error.returncode}'}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bwrap fails here: {error}"
    return ""


def has_sandbox() -> bool:
    """Whether steps run in a sandbox; blocks the first time.

    Raises:
        OperatorError: there is none, and it is required.
    """
    mode = sandbox_mode()
    obstacle = sandbox_obstacle() if mode is not SandboxMode.OFF else ""
    if mode is SandboxMode.REQUIRED and obstacle:
        raise OperatorError(f"{MODE_ENV}=required, but there is no sandbox: {obstacle}")
    if obstacle:
        warn_once(obstacle)
    return mode is not SandboxMode.OFF and not obstacle


def missing_sandbox() -> str:
    """Why steps run without a sandbox; empty if they have one; blocks the first time."""
    return f"{MODE_ENV}=off" if sandbox_mode() is SandboxMode.OFF else sandbox_obstacle()


@functools.cache
def warn_once(obstacle: str) -> None:
    """Log that steps run without a sandbox, the first time."""
    log.warning(
        "steps of registrations run without a sandbox: %s. They can read what this user can, and reach the network; "
        "see docs/security.md",
        obstacle,
    )


def sandboxed(command: Sequence[str], files: SandboxFiles) -> list[str]:
    """The command line that runs a command in a sandbox; what it writes at `TEMPORARY` must be among `files`."""
    here = str(Path.cwd())  # relative paths mean the same inside
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
    """Python, packages, and our own code: no folder that may hold anything else, such as the one of a checkout."""
    prefixes = {Path(one) for one in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)}
    prefixes |= {Path(os.path.realpath(sys.executable)).parents[1]}
    packages = [Path(one) for one in sys.path if Path(one).name in ("site-packages", "dist-packages")]
    code = [entry for folder in (_ROOT, *wanted) for entry in _code_within(folder)]
    found = [*prefixes, *packages, *code, *libraries, *more]
    return tuple(sorted(one.absolute() for one in found if not one.is_relative_to("/usr")))


def _folders(variable: str) -> tuple[Path, ...]:
    return tuple(Path(one) for one in os.environ.get(variable, "").split(os.pathsep) if one)


def _code_within(folder: Path) -> Iterator[Path]:
    """Packages and modules directly in a folder."""
    if folder.is_dir():
        yield from (entry for entry in folder.iterdir() if (entry / "__init__.py").exists() or entry.suffix == ".py")
