"""Registers a cascade of two variants of a task: one variant of a new architecture for each threshold.

The thresholds are given, or calibrated on labelled rows; then each cascade is measured on other rows, as any variant
is. The accuracy that a query needs selects among them. So one pair of stages covers the range from nearly the first
stage's cost to nearly the second stage's accuracy.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.composites.calibration import (
    LabelledRows,
    RowSplit,
    cascade_curve,
    cascade_point,
    default_points,
    guess_confidence,
    point_for,
    read_rows,
    right_rows,
    scores_of,
    stage_confidence,
    threshold_label,
)
from registry.composites.measuring import CompositePlan, CompositeWriter, content_of, note_access, stage_of
from registry.composites.stage_records import FoundStage, StageFinder, parts_of
from registry.quality import TEXT_MEASURES
from registry.request import CascadeRequest, ProgressSink, Registration, shown
from registry.samples import Arrays
from registry.step_runner import LOCAL, StepRunner
from runtimes.composite import CASCADE, CascadeDocument, ConfidenceMeasure
from schemas.errors import InvalidRequest
from schemas.generation import TEXT_OUTPUT
from schemas.names import is_name
from schemas.registrations import CascadePoint, RegisteredVariant
from schemas.rows.catalog import ACCURACY, Processing, Task
from store.pool import Pool

_KEPT_ROWS: Final = 8


class CascadeStages(NamedTuple):
    """The two variants of a cascade."""

    first: FoundStage
    then: FoundStage

    def check(self) -> None:
        """Raise `InvalidRequest` unless the second stage can improve on the first."""
        (first, cheap, _), (then, better, _) = self
        if first.hardware != then.hardware:
            raise InvalidRequest(f"{first.name} and {then.name} run on different hardware, but a worker has only one")
        if better.accuracy <= cheap.accuracy:
            raise InvalidRequest(
                f"{then.name} is no more accurate than {first.name} ({better.accuracy:.4f}, {cheap.accuracy:.4f}): "
                "escalating to it gains nothing"
            )
        if _inputs_of(self.first) != _inputs_of(self.then):
            raise InvalidRequest(
                f"{first.name} and {then.name} process inputs differently: register both with the same processing"
            )


def _inputs_of(stage: FoundStage) -> Processing | None:
    processing = stage.architecture.processing
    return processing and replace(processing, returned=())


class CalibratedCascade(NamedTuple):
    """Result of the calibration of a pair of stages."""

    output: str
    """Output from which the confidence is computed."""
    measure: ConfidenceMeasure
    points: list[CascadePoint]
    kept: Arrays
    """Rows to warm up with, the least confident one first."""


async def register_cascade(
    request: CascadeRequest, pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, progress: ProgressSink,
    runner: StepRunner = LOCAL,
) -> list[RegisteredVariant]:  # fmt: skip
    """Register a cascade, one variant for each threshold; return them without profiles, the lowest threshold first.

    `runner` runs the stages and the measurement.

    Raises:
        InvalidRequest: the stages make no cascade, or no threshold gives the requested accuracy.
        OperatorError: a file, a service or an earlier registration prevents it.
    """
    request.check()
    finder = StageFinder(pool, artifacts, runner, request.publisher)
    task = await finder.task(request.task)
    stages = CascadeStages(await finder.stage(request.first, task.name), await finder.stage(request.then, task.name))
    stages.check()
    check_cascadable(task)
    processing = stages.first.architecture.processing
    scores = scores_of(task, request.output or (processing.scores if processing else task.measured_output) or None)
    split = await asyncio.to_thread(read_rows, task, scores, request.validation, request.calibration, request.samples)
    with TemporaryDirectory(prefix="infaas-cascade-") as name:
        progress.step(0, 1, f"{request.task}: calibrating")
        rows = split.calibrating
        first, then = [await finder.outputs(stage, rows.inputs, Path(name)) for stage in stages]
        calibrated = calibrate(request, task.measure, scores.name, rows, first, then)
        plan = _plan(request, task, stages, scores.name, split, calibrated.kept)
        await note_access(plan, pool, progress)
        writer = await CompositeWriter.open(plan, pool, kafka, artifacts, Path(name), runner)
        made: list[RegisteredVariant] = []
        for done, point in enumerate(calibrated.points, 1):
            label = _label(stages, point.threshold)
            show = shown(progress, done, 1 + len(calibrated.points), f"{plan.request.architecture}.{label}: measuring")
            variant = await writer.write(label, _document(stages, calibrated, point), show)
            made.append(RegisteredVariant(variant=variant, calibrated=point))
    progress.step(1, 1, f"{plan.request.architecture}: registered")
    return made


def calibrate(
    request: CascadeRequest, task_measure: str, scores: str, rows: LabelledRows, first: Arrays, then: Arrays
) -> CalibratedCascade:
    """Find the thresholds on labelled rows, from the answers of both stages to them.

    Raises:
        InvalidRequest: the declared confidence does not exist, or no threshold is accurate enough.
    """
    output, measure = _confidence(request, scores, first)
    confidence = stage_confidence(first, output, measure)
    right = tuple(right_rows(task_measure, outputs[scores], rows.labels) for outputs in (first, then))
    curve = cascade_curve(confidence, *right)
    points = [cascade_point(threshold, confidence, *right) for threshold in request.thresholds]
    points += [point_for(curve, accuracy) for accuracy in request.min_accuracies]
    points = points or default_points(curve, float(right[0].mean()), float(right[1].mean()))
    each = {point.threshold: point for point in points}
    kept = _extremes(confidence)
    return CalibratedCascade(
        output, measure, [each[threshold] for threshold in sorted(each)], {n: a[kept] for n, a in rows.inputs.items()}
    )


def _confidence(request: CascadeRequest, scores: str, first: Arrays) -> tuple[str, ConfidenceMeasure]:
    declared = request.confidence
    if declared is None:
        return guess_confidence(scores, first)
    if scores == TEXT_OUTPUT:
        raise InvalidRequest("the confidence of a text is its mean log-probability: leave --confidence out")
    if declared in (ConfidenceMeasure.SOFTMAX, ConfidenceMeasure.PROBABILITY):
        return scores, ConfidenceMeasure(declared)
    if declared in first:
        return declared, ConfidenceMeasure.VALUE
    names = ", ".join(first)
    raise InvalidRequest(f"--confidence must be softmax, probability, or an output ({names}), not {declared!r}")


def _extremes(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the least and the most confident rows, so that they use both stages."""
    order = np.argsort(np.nan_to_num(confidence, nan=-np.inf), kind="stable")
    return np.concatenate([order[: _KEPT_ROWS // 2], order[-_KEPT_ROWS // 2 :]])


def check_cascadable(task: Task) -> None:
    """Raise `InvalidRequest` unless answers are right or wrong, and those of both stages have one shape."""
    is_generative = any(spec.name == TEXT_OUTPUT for spec in task.outputs)
    if task.measure not in (TEXT_MEASURES if is_generative else (ACCURACY,)):
        needed = " or ".join(TEXT_MEASURES) if is_generative else ACCURACY
        raise InvalidRequest(
            f"task {task.name} is measured by {task.measure}: a cascade needs a task that is measured by {needed}"
        )
    for spec in task.outputs:
        if min(spec.shape[1:], default=1) < 0:
            raise InvalidRequest(
                f"output {spec.name!r} of task {task.name} has the shape {list(spec.shape)}: the answers of a "
                "cascade's stages must have one size"
            )


def _plan(
    request: CascadeRequest, task: Task, stages: CascadeStages, scores: str, split: RowSplit, kept: Arrays
) -> CompositePlan:
    first, then = stages.first.variant, stages.then.variant
    registration = Registration(
        architecture=request.name or default_name(first.architecture, then.architecture),
        task=task.name,
        file=Path(f"{first.name} and {then.name}"),
        validation=request.validation,
        max_batch=min(first.max_batch, then.max_batch),
        partitions=min(first.partitions, then.partitions),
        hardware=first.hardware,
        threads=stages.then.profile.threads,
        again=request.again,
        context_tokens=stages.then.context_tokens,
        made_of=parts_of(stages),
        access=request.access,
        publisher=request.publisher,
    )
    return CompositePlan(
        request=registration,
        task=task,
        source=content_of(*(stage.architecture.source for stage in stages)),
        samples=split.samples,
        scores=scores,
        processing=stages.first.architecture.processing,
        kept=kept,
    )


def _label(stages: CascadeStages, threshold: float) -> str:
    """Return the middle part of a variant's name: the labels of its stages, and the threshold."""
    kinds = [stage.variant.name.split(".")[1] for stage in stages]
    label = "-".join((*kinds, threshold_label(threshold)))
    return label if is_name(label) else f"{CASCADE}-{content_of(*kinds)[:8]}-{threshold_label(threshold)}"


def default_name(first: str, then: str) -> str:
    """Return the default name of a cascade of two architectures; raises `InvalidRequest` if it would be too long."""
    name = f"{first}-or-{then}" if first != then else f"{first}-{CASCADE}"
    if not is_name(name):
        raise InvalidRequest(f"{name} is too long for a name: choose one by --name")
    return name


def _document(stages: CascadeStages, calibrated: CalibratedCascade, point: CascadePoint) -> CascadeDocument:
    return CascadeDocument(
        stages=tuple(stage_of(stage.variant) for stage in stages),
        thresholds=(point.threshold,),
        output=calibrated.output,
        measure=calibrated.measure,
    )
