"""Replaces the files of a step: files that a remote step reads are named by content, files that it writes by position.

So a step is the same on every machine, and can be recognised later.
"""

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from registry.pipeline.generation import GenerateVariant
from registry.pipeline.measurement import MeasureVariant
from registry.pipeline.stage_outputs import ComputeOutputs
from registry.plan import PlanVariants
from registry.step_runner import HardwareStep
from schemas.rows.processing import Processing

MapFile = Callable[[Path], Path]


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
        case MeasureVariant():
            return replace(
                step,
                artifact=read(step.artifact),
                samples=read(step.samples),
                processing=_with_files_read(step.processing, read),
                outputs=written(step.outputs),
                single_outputs=step.single_outputs and written(step.single_outputs),
            )
        case ComputeOutputs():
            return replace(
                step,
                artifact=read(step.artifact),
                samples=read(step.samples),
                processing=_with_files_read(step.processing, read),
                outputs=written(step.outputs),
            )
        case PlanVariants():
            return step


def _with_files_read(processing: Processing | None, read: MapFile) -> Processing | None:
    return processing and processing.with_files(lambda file: str(read(Path(file))))
