"""Runs one step in a fresh process (`step_process`), and in a sandbox if the machine has one.

The process is fresh, so that memory and load time are those of the variant. A crash in native code, or a model that
never returns, ends the step and not the registration. The step may use most of the memory that is free at its start,
and if the machine runs out of memory the kernel kills the step first. Child processes end with the step, and the step
ends with the process that started it. In a sandbox it sees only its own files (`step_files`).

It gets variables of Python and native libraries, and no secret: it processes a tenant's file with libraries that may
have security holes, and its parent's environment contains passwords of Postgres and Kafka, keys of a bucket and signing
secrets. The list therefore names allowed variables, not forbidden ones: a secret may have any name (`DATABASE_URL`,
`HF_TOKEN`), while the variables of a library are known when its runtime is added. An operator may allow more, such as a
licence, in `INFAAS_STEP_VARIABLES`.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, Self, TypeVar

import msgspec
from msgspec.structs import replace

from process.memory import free_memory
from process.module_names import CODE_FOLDER, module_name
from process.sandbox import TEMPORARY, has_sandbox, sandboxed, syscall_filter
from process.subprocesses import end_words, last_words
from registry.pipeline.step_files import OwnFolders, PipelineStep, check_result, step_files
from registry.pipeline.step_process import STEP_ERRORS, StepDone, StepFailed, StepJob, StepLimits, to_path
from registry.pipeline.timing_turn import ASKED, GIVEN
from schemas.errors import ModelFailed

ENV: Final = "INFAAS_STEP_VARIABLES"
"""Variable that allows more names, e.g. `LM_LICENSE_FILE, VENDOR_*`."""
_GIVEN: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "XDG_*_HOME", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR"),
    *("PYTHON*", "LD_*", "DYLD_*", "GLIBC_TUNABLES", "MALLOC_*"),
    *("CC", "CXX", "CPATH", "*_INCLUDE_PATH", "LIBRARY_PATH"),  # for compilers of variants
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "TBB_*"),  # threads
    *("DNNL_*", "ONEDNN_*", "OV_*", "OPENVINO_*", "ONEAPI_*", "SYCL_*", "ZE_*", "OCL_*"),
    *("CUDA_*", "CUDNN_*", "CUBLAS_*", "NCCL_*"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE"),  # others are keys
    *("HIP_*", "HSA_*", "ROCM_*", "ROCR_*", "NEURON_*", "XLA_*"),
    *("ORT_*", "TORCH*", "PYTORCH_*", "TRITON_CACHE_DIR", "TRITON_PTXAS_PATH"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_*", "TOKENIZERS_*", "PROTOCOL_BUFFERS_*"),
)
"""Names and patterns; no pattern matches variables in which a program keeps a secret."""
T = TypeVar("T")
_MEMORY_SHARE: Final = 0.9
"""Share of the free memory that a step may use."""
_LARGEST_RESULT: Final = 64 << 20
_NO_CACHES: Final = {"TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0"}
"""Variables that keep libraries from filling caches that are deleted with the sandbox."""


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that a step may have."""
    given = (*_GIVEN, *environment.get(ENV, "").replace(",", " ").split())
    return {name: value for name, value in environment.items() if any(fnmatchcase(name, one) for one in given)}


class StepCrashed(ModelFailed):
    """The process of a step ended without a result. A retry may succeed, for example with more free memory."""


async def run_step(
    step: PipelineStep, kind: type[T], limits: StepLimits | None = None, turns: asyncio.Lock | None = None
) -> T:
    """Run a step and return its result, of type `kind`.

    The step and its children are killed if the call is cancelled or this process ends. A measurement holds `turns`
    while it times its model, so that the steps of callers that share the lock do so one after the other.

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
        limits = replace(limits, memory_bytes=memory_bytes)
        job = StepJob(step, limits, 0 if place.own else os.getpid(), takes_turns=turns is not None)
        (place.scratch / "step").write_bytes(msgspec.json.encode(job, enc_hook=str))
        async with _standard_input(turns) as given:
            code = await _run(place, folder / "log", limits.timeout_s, given)
        outcome = await asyncio.to_thread(place.outcome)
        if outcome is None:
            error = ModelFailed if code is None else StepCrashed
            words = last_words(folder / "log")
            raise error(f"{_end(code)}: {words}" if words else _end(code))
        if isinstance(outcome, StepFailed):
            raise STEP_ERRORS[outcome.error](outcome.message)
        if place.own:
            await asyncio.to_thread(place.own.take_over)
    value = msgspec.json.decode(outcome.value, type=kind, dec_hook=to_path)
    check_result(step, value)
    return value


class _StepPlace(NamedTuple):
    """Folders of a running step."""

    scratch: Path
    """Folder of the step, its outcome and its temporary files."""
    own: OwnFolders | None
    """Folders that it writes to in a sandbox; None without a sandbox."""

    @classmethod
    def prepared(cls, folder: Path, step: PipelineStep) -> Self:
        """Create the folders of the step in `folder`; blocks."""
        scratch = folder / "scratch"
        scratch.mkdir()
        return cls(scratch, OwnFolders(folder, step_files(step)) if has_sandbox() else None)

    def command(self) -> list[str]:
        """Return the command line of the step's process."""
        seen = TEMPORARY if self.own else self.scratch
        command = [
            sys.executable,
            "-m",
            module_name("registry.pipeline.step_process"),
            str(seen / "step"),
            str(seen / "result"),
        ]
        return sandboxed(command, self.own.sandbox_files(self.scratch, TEMPORARY)) if self.own else command

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the step's process."""
        path = os.pathsep.join(filter(None, (str(CODE_FOLDER), os.environ.get("PYTHONPATH"))))
        given = step_environment(os.environ) | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        if not self.own:
            return given
        kept = {name: value for name, value in given.items() if not name.startswith("XDG_")}
        return _NO_CACHES | kept | dict.fromkeys(("HOME", "TMPDIR"), str(TEMPORARY))

    def outcome(self) -> "StepDone | StepFailed | None":
        """Return the outcome of the step; None if there is none or it cannot be read; blocks."""
        try:
            descriptor = os.open(self.scratch / "result", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                return msgspec.json.decode(file.read(_LARGEST_RESULT), type=StepDone | StepFailed)
        except (OSError, msgspec.DecodeError):
            return None


@asynccontextmanager
async def _standard_input(turns: asyncio.Lock | None) -> AsyncGenerator[int]:
    """Yield the standard input of a step: the end of a socket over which it gets its turn, or nothing."""
    if turns is None:
        yield asyncio.subprocess.DEVNULL
        return
    ours, theirs = socket.socketpair()
    giving = asyncio.create_task(_give_turn(ours, turns), name="turn of a step")
    try:
        with theirs:
            yield theirs.fileno()
    finally:
        giving.cancel()
        await asyncio.wait({giving})


async def _give_turn(ours: socket.socket, turns: asyncio.Lock) -> None:
    """Let a step time its model once it asks, until it says that it has, or ends."""
    reader, writer = await asyncio.open_connection(sock=ours)
    with closing(writer):
        if await reader.read(1) == ASKED:
            async with turns:
                writer.write(GIVEN)
                await reader.read(1)


async def _run(place: _StepPlace, said: Path, timeout_s: float, given: int) -> int | None:
    """Run the child process; return its exit code, or None if it was killed at the timeout."""
    with said.open("wb") as log, syscall_filter() as (descriptor, options):
        command, descriptors = place.command(), tuple[int, ...]()
        if place.own and options:
            command[1:1], descriptors = options, (descriptor,)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=given,
            stdout=log,
            stderr=log,
            env=place.environment(),
            start_new_session=True,
            pass_fds=descriptors,
        )
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
                return 128 - code if place.own and code > 128 else code  # bwrap reports a signal as 128 + number
        except TimeoutError:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _end(code: int | None) -> str:
    return "it did not finish in time" if code is None else end_words(code)
