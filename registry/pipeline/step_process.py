"""Process of one step: `python -m registry.pipeline.step_process STEP RESULT`, both JSON files.

It computes without an event loop, so it imports none: a registration starts dozens of these processes.
"""

import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from process.cpus import lower_session_priority, pin_thread
from process.parent_death import end_with_parent
from registry.pipeline.measurement import MeasureVariant
from registry.pipeline.step_files import PipelineStep
from registry.pipeline.timing_turn import timing_turn
from registry.recipes import NotApplicable
from schemas.errors import InvalidRequest, ModelFailed, OperatorError

TIMEOUT_S: Final = 900.0
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_MEMORY_SIGNS: Final = ("bad_alloc", "failed to allocate", "out of memory", "cannot allocate memory")
STEP_ERRORS: Final = {kind.__name__: kind for kind in (InvalidRequest, OperatorError, NotApplicable, ModelFailed)}
"""Errors that a step may raise, by name."""


class StepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Resource limits of a step's process."""

    timeout_s: float = TIMEOUT_S
    memory_bytes: int = 0
    """Memory limit in bytes; 0: nine tenths of the memory that is free at the start."""
    nice: int = 0
    """Nice value of the process and of its session, from 0 to 19, which is behind all others."""
    cpus: tuple[int, ...] = ()
    """Numbers of the cores that it may use; empty: any."""


class StepJob(msgspec.Struct, frozen=True):
    """A step with its limits."""

    step: PipelineStep
    limits: StepLimits
    parent: int
    """Process id with which it ends; 0 in a sandbox, which ends it itself."""
    takes_turns: bool = False
    """True if it asks for its turn to time a model."""


class StepFailed(msgspec.Struct, frozen=True, tag=True):
    """Error of a step that ended without a result."""

    error: str
    message: str


class StepDone(msgspec.Struct, frozen=True, tag=True):
    """Encoded result of a step."""

    value: msgspec.Raw


def main(step: Path, result: Path) -> None:
    """Run the step, in the child process, and write its outcome atomically."""
    partial = result.with_suffix(".partial")
    job = msgspec.json.decode(step.read_bytes(), type=StepJob, dec_hook=to_path)
    if job.parent:
        end_with_parent(signal.SIGKILL, job.parent)
    _limit(job.limits)
    partial.write_bytes(msgspec.json.encode(_outcome(job)))
    partial.replace(result)


def _limit(limits: StepLimits) -> None:
    """Limit this process. Address space is not limited, because devices map more of it than there is memory."""
    memory_bytes = limits.memory_bytes
    pin_thread(limits.cpus)
    if limits.nice:
        lower_session_priority(limits.nice)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most_s = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))  # not the limit of the parent, which needs less CPU
    with suppress(OSError):  # not Linux
        _OOM_SCORE.write_text("1000")


def to_path(_kind: type, text: str) -> Path:
    """Decode a type that JSON lacks: steps and results contain only paths."""
    return Path(text)


def _outcome(job: StepJob) -> StepDone | StepFailed:
    try:
        return StepDone(msgspec.Raw(msgspec.json.encode(_run(job), enc_hook=str)))
    except (InvalidRequest, OperatorError, NotApplicable, ModelFailed) as error:
        return StepFailed(type(error).__name__, str(error))
    except OSError as error:
        return StepFailed(OperatorError.__name__, f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything: an error of the model
        return StepFailed(ModelFailed.__name__, f"{_short_of_memory(error, job)}{type(error).__name__}: {error}")


def _run(job: StepJob) -> object:
    if job.takes_turns and isinstance(job.step, MeasureVariant):
        return job.step.run(timing_turn())
    return job.step.run()


def _short_of_memory(error: Exception, job: StepJob) -> str:
    said = str(error).lower()
    short = isinstance(error, MemoryError) or any(sign in said for sign in _MEMORY_SIGNS)
    return f"it exceeds its memory limit of {job.limits.memory_bytes >> 20} MiB: " if short else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
