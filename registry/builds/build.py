"""Messages of a build: its request, the reports of a worker, and its outcome.

The files that a remote step reads are named by content, the files that it writes by position. So a step is the same on
every machine, and can be recognised later.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from msgspec.structs import replace

from registry.pipeline.generation import GenerateVariant
from registry.pipeline.measurement import ComputeOutputs, MeasureVariant
from registry.pipeline.step_process import STEP_ERRORS, to_path
from registry.plan import PlanVariants
from registry.step_runner import HardwareStep
from schemas.errors import OperatorError
from schemas.rows.catalog import Processing

T = TypeVar("T")
MapFile = Callable[[Path], Path]


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A step for a worker, with its files named by their SHA-256: equal steps are the same build."""

    step: HardwareStep
    run: str = ""
    """Distinguishes it from the same step of another registration, if the step must be repeated."""

    @property
    def id(self) -> str:
        """SHA-256 of the build's content."""
        return hashlib.sha256(msgspec.json.encode(self, enc_hook=str)).hexdigest()

    @classmethod
    def decoded(cls, value: object) -> Self:
        """Return the build from decoded JSON; raises `msgspec.ValidationError`."""
        return msgspec.convert(value, cls, dec_hook=to_path)


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a build (JSON, in `infaas.builds.<hardware>`; key = its id)."""

    id: str
    build: dict[str, Any]
    """The build, as plain JSON values."""
    asked_ms: int
    """Time of the request in ms since the epoch, by the database's clock; a request older than another for the same
    build is ignored."""

    @classmethod
    def of(cls, build: Build, asked_ms: int) -> Self:
        """Return the request for a build."""
        return cls(id=build.id, build=msgspec.to_builtins(build, enc_hook=str), asked_ms=asked_ms)


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report of a worker that it has begun or ended a build (JSON)."""

    build: str
    worker: str
    ended: bool = False


class BuildOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Outcome of a build."""

    value: Any = None
    """Result of the step, as plain JSON values."""
    error: str = ""
    """Name of the error that the step raised; empty if there was none."""
    message: str = ""
    files: dict[str, str] = {}
    """SHA-256 of each file that the step wrote, by its name in the build."""

    @classmethod
    def of_error(cls, error: Exception) -> Self:
        """Return the outcome of a step that raised one of the errors allowed for steps."""
        name = next(name for name, kind in STEP_ERRORS.items() if isinstance(error, kind))
        return cls(error=name, message=str(error))

    def result(self, kind: type[T], worker: str) -> T:
        """Return the step's result, or raise its error. An `OperatorError` names the `worker`, on which it occurred."""
        if self.error:
            error = STEP_ERRORS.get(self.error, OperatorError)
            raise error(f"{worker}: {self.message}" if error is OperatorError else self.message)
        return msgspec.convert(self.value, kind, dec_hook=to_path)


def with_files(step: HardwareStep, read: MapFile, written: MapFile) -> HardwareStep:
    """Return the step with other paths for the files that it reads and writes."""
    match step:
        case GenerateVariant():
            return replace(
                step,
                source=read(step.source),
                calibration=step.calibration and read(step.calibration),
                samples=step.samples and read(step.samples),
                target=written(step.target),
            )
        case MeasureVariant() | ComputeOutputs():
            moved = replace(
                step,
                artifact=read(step.artifact),
                samples=read(step.samples),
                processing=_with_files_read(step.processing, read),
                outputs=written(step.outputs),
            )
            if isinstance(moved, MeasureVariant) and moved.single_outputs is not None:
                moved = replace(moved, single_outputs=written(moved.single_outputs))
            return moved
        case PlanVariants():
            return step


def _with_files_read(processing: Processing | None, read: MapFile) -> Processing | None:
    return processing and processing.with_files(lambda file: str(read(Path(file))))
