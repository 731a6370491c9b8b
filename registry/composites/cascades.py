"""Registers a cascade of two variants of a task: one variant of a new architecture for each threshold.

The thresholds are given, or calibrated on labelled rows; then each cascade is measured on others, as any variant is. A
query's accuracy chooses among them, so one pair of stages serves from nearly the cheap one's price to nearly the better
one's accuracy.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from broker.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.composites.calibration import (
    cascade_curve,
    cascade_point,
    default_points,
    point_for,
    right_rows,
    threshold_label,
)
from registry.composites.labelled_rows import LabelledRows, RowSplit, read_rows, scores_of
from registry.composites.measuring import CompositePlan, CompositeWriter, content_of, note_access, stage_of
from registry.composites.stage_records import FoundStage, StageFinder, parts_of
from registry.registration import ProgressSink, Registration, shown
from registry.samples import Arrays
from registry.step_runner import LOCAL, StepRunner
from runtimes.composite import CASCADE, CascadeDocument
from runtimes.confidence import ConfidenceMeasure, confidence_of, guess_measure
from schemas.access import Access
from schemas.errors import InvalidRequest
from schemas.names import is_name
from schemas.registrations import CascadePoint
from schemas.rows.catalog import ACCURACY, Task, Variant
from store.pool import Pool

SAMPLES: Final = 1000
_KEPT_ROWS: Final = 8


class CascadeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A cascade that a person asks for."""

    task: str
    first: str
    """The variant that answers what it is sure of."""
    then: str
    """The variant that answers the rest."""
    validation: Path
    """`.npz` with an array per input, and `label`."""
    calibration: Path | None = None
    """The file that the stages were calibrated with, if there was one."""
    name: str | None = None
    """Name of the architecture; by default made of the stages'."""
    thresholds: tuple[float, ...] = ()
    min_accuracies: tuple[float, ...] = ()
    """Accuracies to find a threshold for; with no `thresholds` either, some are found from cheap to accurate."""
    output: str | None = None
    """The output with the classes' scores, if there are several."""
    confidence: str | None = None
    """`softmax`, `probability`, or the output that is the confidence itself; None: as the scores look."""
    samples: int = SAMPLES
    """Most rows that calibrate, and most that measure."""
    again: bool = False
    access: Access | None = None
    publisher: str | None = None
    """The tenant that registers it, and sees what it may be made of; None: an administrator."""

    def check(self) -> None:
        """Raise `InvalidRequest` that says what is wrong, without a look at anything."""
        if self.first == self.then:
            raise InvalidRequest("a cascade needs two variants: name another one by --then")
        wrong = [value for value in self.thresholds if not 0 < value <= 1]
        if wrong:
            raise InvalidRequest(f"a --threshold is a confidence, above 0 and at most 1, not {wrong[0]:g}")


class MadeCascade(NamedTuple):
    """A variant that was registered, and what its threshold gave on the rows that calibrated it."""

    variant: Variant
    calibrated: CascadePoint


class CascadeStages(NamedTuple):
    """The two variants of a cascade."""

    first: FoundStage
    then: FoundStage

    def check(self) -> None:
        """Raise `InvalidRequest` unless the second is of use to the first."""
        (first, cheap, _), (then, better, _) = self
        if first.hardware != then.hardware:
            raise InvalidRequest(f"{first.name} and {then.name} run on different hardware, and a worker has only one")
        if better.accuracy <= cheap.accuracy:
            raise InvalidRequest(
                f"{then.name} is no more accurate than {first.name} ({better.accuracy:.4f}, {cheap.accuracy:.4f}): "
                "nothing is gained by asking it, too"
            )
        if self.first.architecture.processing != self.then.architecture.processing:
            raise InvalidRequest(
                f"{first.name} and {then.name} make different tensors of what clients send: register both with the "
                "same processing"
            )


class CalibratedCascade(NamedTuple):
    """What the rows that calibrate have said of a pair of stages."""

    output: str
    """The output that the confidence is taken from."""
    measure: ConfidenceMeasure
    points: list[CascadePoint]
    kept: Arrays
    """Rows to warm up with, that of the least confidence first."""


async def register_cascade(
    request: CascadeRequest, pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, progress: ProgressSink,
    runner: StepRunner = LOCAL,
) -> list[MadeCascade]:  # fmt: skip
    """Register a cascade, one variant for each threshold; returns them, the lowest threshold first.

    `runner` is where its stages answer, and where it is measured.

    Raises:
        InvalidRequest: the stages make no cascade, or no threshold gives what is wanted.
        OperatorError: a file, a service or an earlier registration stands in the way.
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
        calibrated = calibrate(request, scores.name, rows, first, then)
        plan = _plan(request, task, stages, scores.name, split, calibrated.kept)
        await note_access(plan, pool, progress)
        writer = await CompositeWriter.open(plan, pool, kafka, artifacts, Path(name), runner)
        made: list[MadeCascade] = []
        for done, point in enumerate(calibrated.points, 1):
            label = _label(stages, point.threshold)
            show = shown(progress, done, 1 + len(calibrated.points), f"{plan.request.architecture}.{label}: measuring")
            made.append(MadeCascade(await writer.write(label, _document(stages, calibrated, point), show), point))
    progress.step(1, 1, f"{plan.request.architecture}: registered")
    return made


def calibrate(
    request: CascadeRequest, scores: str, rows: LabelledRows, first: Arrays, then: Arrays
) -> CalibratedCascade:
    """Find the thresholds on labelled rows, from what both stages answer to them.

    Raises:
        InvalidRequest: the confidence cannot be had as declared, or no threshold is accurate enough.
    """
    output, measure = _confidence(request, scores, first)
    confidence = confidence_of(first[output], measure)
    right = right_rows(first[scores], rows.labels), right_rows(then[scores], rows.labels)
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
        return scores, guess_measure(first[scores])
    if declared in (ConfidenceMeasure.SOFTMAX, ConfidenceMeasure.PROBABILITY):
        return scores, ConfidenceMeasure(declared)
    if declared in first:
        return declared, ConfidenceMeasure.VALUE
    names = ", ".join(first)
    raise InvalidRequest(f"a --confidence is softmax, probability, or an output ({names}), not {declared!r}")


def _extremes(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows that pass all stages and rows that do not, if there are both."""
    order = np.argsort(np.nan_to_num(confidence, nan=-np.inf), kind="stable")
    return np.concatenate([order[: _KEPT_ROWS // 2], order[-_KEPT_ROWS // 2 :]])


def check_cascadable(task: Task) -> None:
    """Raise `InvalidRequest` unless answers to a task are right or wrong, and those of several stages can be one."""
    if task.measure != ACCURACY:
        raise InvalidRequest(
            f"task {task.name} is measured by {task.measure}: a cascade needs answers that are right or wrong, as of "
            f"tasks that are measured by {ACCURACY}"
        )
    for spec in task.outputs:
        if min(spec.shape[1:], default=1) < 0:
            raise InvalidRequest(
                f"output {spec.name!r} of task {task.name} has the shape {list(spec.shape)}: the answers of several "
                "stages can only be one where all are of one size"
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
    """The middle part of a variant's name: which variants of the two architectures, and the threshold."""
    kinds = [stage.variant.name.split(".")[1] for stage in stages]
    label = "-".join((*kinds, threshold_label(threshold)))
    return label if is_name(label) else f"{CASCADE}-{content_of(*kinds)[:8]}-{threshold_label(threshold)}"


def default_name(first: str, then: str) -> str:
    """The name of a cascade of two architectures; raises `InvalidRequest` where that would be too long."""
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
