"""One step run in a fresh process: `python -m registry.pipeline.isolation STEP RESULT`, both files of JSON.

Fresh, so that memory and load time are the variant's own; apart, so that a crash in native code, or a model that never
returns, ends the step and not the registration. Limited, so that it does no harm to what else runs on the machine: it
may take most of the memory that is free when it begins, and where the machine runs out all the same, it is what the
kernel ends first. What it started ends with it, and it with the process that started it. It knows no secret of that
one (`step_environment`) and, where there is a sandbox, sees nothing but its own files (`step_files`).
"""

import asyncio
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, Self, TypeVar

import msgspec
from msgspec.structs import replace

from process.affinity import pin_thread
from process.memory import free_memory
from process.priority import lower_priority
from process.sandbox import TEMPORARY, has_sandbox, sandboxed
from process.subprocesses import end_with_parent
from process.syscall_filter import syscall_filter
from registry.pipeline.step_environment import step_environment
from registry.pipeline.step_files import OwnFolders, PipelineStep, check_result, step_files
from registry.recipes import NotApplicable
from schemas.errors import InvalidRequest, ModelFailed, OperatorError

T = TypeVar("T")
TIMEOUT_S: Final = 900.0
_MEMORY_SHARE: Final = 0.9
"""Share of the free memory that a step may take."""
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_ROOT: Final = Path(__file__).parents[2]
_TAIL: Final = 2000
_LARGEST_RESULT: Final = 64 << 20
_NO_CACHES: Final = {"TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0"}
"""Variables that keep libraries from filling caches which end with the sandbox."""
_MEMORY_SIGNS: Final = ("bad_alloc", "failed to allocate", "out of memory", "cannot allocate memory")
STEP_ERRORS: Final = {kind.__name__: kind for kind in (InvalidRequest, OperatorError, NotApplicable, ModelFailed)}
"""What a step may raise, by name."""


class StepCrashed(ModelFailed):
    """The process of a step ended without a result: what it needed may be there the next time."""


class StepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of a step may take."""

    timeout_s: float = TIMEOUT_S
    memory_bytes: int = 0
    """Memory of its own; 0: nine tenths of what is free when it begins."""
    gives_way: bool = False
    """Whether others that want a core go first."""
    cpus: tuple[int, ...] = ()
    """Numbers of the cores that it may use; none: any."""


class _Job(msgspec.Struct, frozen=True):
    """A step, and what it may take."""

    step: PipelineStep
    limits: StepLimits
    parent: int
    """The process that it ends with; 0 in a sandbox, which sees to that."""


class _Failed(msgspec.Struct, frozen=True, tag=True):
    """Why a step ended without a result."""

    error: str
    message: str


class _Done(msgspec.Struct, frozen=True, tag=True):
    """A step's result, encoded."""

    value: msgspec.Raw


async def run_step(step: PipelineStep, kind: type[T], limits: StepLimits | None = None) -> T:
    """Run a step and return its result. Cancelling kills the process, and what it started; so does our own end.

    Raises:
        InvalidRequest, OperatorError, NotApplicable: as the step raised them.
        StepCrashed: its process ended without a result.
        ModelFailed: any other error of the step, or no result in time.
    """
    limits = limits or StepLimits()
    memory_bytes = limits.memory_bytes or int(_MEMORY_SHARE * free_memory())
    with TemporaryDirectory(prefix="infaas-step-") as name:
        folder = Path(name)
        place = await asyncio.to_thread(_StepPlace.prepared, folder, step)
        job = _Job(step, replace(limits, memory_bytes=memory_bytes), 0 if place.own else os.getpid())
        (place.scratch / "step").write_bytes(msgspec.json.encode(job, enc_hook=str))
        code = await _run(place, folder / "log", limits.timeout_s)
        outcome = await asyncio.to_thread(place.outcome)
        if outcome is None:
            error = ModelFailed if code is None else StepCrashed
            raise error(f"{_end(code)}{_log_tail(folder / 'log')}")
        if isinstance(outcome, _Failed):
            raise STEP_ERRORS[outcome.error](outcome.message)
        if place.own:
            await asyncio.to_thread(place.own.take_over)
    value = msgspec.json.decode(outcome.value, type=kind, dec_hook=to_path)
    check_result(step, value)
    return value


class _StepPlace(NamedTuple):
    """Where a step runs."""

    scratch: Path
    """Folder of the step, its outcome and its temporary files."""
    own: OwnFolders | None
    """Folders that it writes to in a sandbox; None without one."""

    @classmethod
    def prepared(cls, folder: Path, step: PipelineStep) -> Self:
        """Make what is needed in `folder`; blocks."""
        scratch = folder / "scratch"
        scratch.mkdir()
        return cls(scratch, OwnFolders(folder, step_files(step)) if has_sandbox() else None)

    def command(self) -> list[str]:
        """The command line of the step's process."""
        seen = TEMPORARY if self.own else self.scratch
        command = [sys.executable, "-m", "registry.pipeline.isolation", str(seen / "step"), str(seen / "result")]
        return sandboxed(command, self.own.sandbox_files(self.scratch, TEMPORARY)) if self.own else command

    def environment(self) -> dict[str, str]:
        """The variables of the step's process."""
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        given = step_environment(os.environ) | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        if not self.own:
            return given
        kept = {name: value for name, value in given.items() if not name.startswith("XDG_")}
        return _NO_CACHES | kept | dict.fromkeys(("HOME", "TMPDIR"), str(TEMPORARY))

    def outcome(self) -> "_Done | _Failed | None":
        """What the step left; None if it left nothing, or nothing that can be read; blocks."""
        try:
            descriptor = os.open(self.scratch / "result", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                return msgspec.json.decode(file.read(_LARGEST_RESULT), type=_Done | _Failed)
        except (OSError, msgspec.DecodeError):
            return None


async def _run(place: _StepPlace, said: Path, timeout_s: float) -> int | None:
    """Run the child; returns its exit code, None if it had to be killed."""
    with said.open("wb") as log, syscall_filter() as (descriptor, options):
        command, descriptors = place.command(), tuple[int, ...]()
        if place.own and options:
            command[1:1], descriptors = options, (descriptor,)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=place.environment(),
            start_new_session=True,
            pass_fds=descriptors,
        )
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
                return 128 - code if place.own and code > 128 else code  # bwrap says so of a signal
        except TimeoutError:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _end(code: int | None) -> str:
    if code is None:
        return "it did not finish in time"
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), probably because the machine ran out of memory"
    return f"it crashed ({signal.Signals(-code).name})" if code < 0 else f"it ended with exit code {code}"


def _log_tail(log: Path) -> str:
    lines = log.read_bytes()[-_TAIL:].decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def main(step: Path, result: Path) -> None:
    """Run the step, in the child, and leave its outcome, whole or not at all."""
    partial = result.with_suffix(".partial")
    job = msgspec.json.decode(step.read_bytes(), type=_Job, dec_hook=to_path)
    if job.parent:
        end_with_parent(signal.SIGKILL, job.parent)
    _limit(job.limits)
    partial.write_bytes(msgspec.json.encode(_outcome(job)))
    partial.replace(result)


def _limit(limits: StepLimits) -> None:
    """Limit what this process may take; address space is free, since devices map more of it than there is memory."""
    memory_bytes = limits.memory_bytes
    pin_thread(limits.cpus)
    if limits.gives_way:
        lower_priority()
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most_s = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))  # not that of whoever runs it, which has less to do
    with suppress(OSError):  # not Linux
        _OOM_SCORE.write_text("1000")


def to_path(_kind: type, text: str) -> Path:
    """Convert what JSON does not know: of a step and its result only paths."""
    return Path(text)


def _outcome(job: _Job) -> _Done | _Failed:
    try:
        return _Done(msgspec.Raw(msgspec.json.encode(job.step.run(), enc_hook=str)))
    except (InvalidRequest, OperatorError, NotApplicable, ModelFailed) as error:
        return _Failed(type(error).__name__, str(error))
    except OSError as error:
        return _Failed(OperatorError.__name__, f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - a runtime raises anything; the parent says it was the model
        return _Failed(ModelFailed.__name__, f"{_short_of_memory(error, job)}{type(error).__name__}: {error}")


def _short_of_memory(error: Exception, job: _Job) -> str:
    said = str(error).lower()
    short = isinstance(error, MemoryError) or any(sign in said for sign in _MEMORY_SIGNS)
    return f"it needs more memory than the {job.limits.memory_bytes >> 20} MiB that it may take: " if short else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
