"""Finds cascades of a task that beat every single variant at equal accuracy.

For each variant of a task, the cheapest cascade with at least its accuracy is sought. It is proposed if an input takes
at least a fifth less time. The accuracy of a cascade depends on the rows on which the first stage is confident and
wrong, which no profile contains; it is counted on labelled rows that every variant has computed.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.artifacts import ArtifactStore
from registry.composites.calibration import (
    cascade_curve,
    guess_confidence,
    read_rows,
    right_rows,
    scores_of,
    stage_confidence,
)
from registry.composites.cascades import check_cascadable
from registry.composites.stage_records import StageFinder
from registry.request import SAMPLES, CascadeRequest, ProgressSink
from registry.step_runner import LOCAL, StepRunner
from schemas.hardware import Hardware
from schemas.registrations import CascadePoint
from store.pool import Pool

_LEAST_SAVING: Final = 0.2
_JOINING_S: Final = 50e-6
"""Approximate seconds for testing the confidence and merging the answers, beside the stages."""


class StageRecord(msgspec.Struct, frozen=True):
    """Measurements of a variant that may become a stage."""

    variant: str
    input_s: float
    """Seconds for a single input."""
    right: NDArray[np.bool_]
    """True for each row on which it is right; all variants computed the same rows."""
    confidence: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of the rows on which it is right."""
        return float(self.right.mean())


class CascadeProposal(msgspec.Struct, frozen=True):
    """A cascade that is worth registering."""

    first: str
    then: str
    point: CascadePoint
    input_s: float
    """Mean seconds for a single input."""
    beats: str
    """Variant that is no more accurate and takes longer."""
    saving: float
    """Share of that variant's time that is saved."""


def propose_cascades(records: Sequence[StageRecord]) -> tuple[CascadeProposal, ...]:
    """Return the best cascade for each variant that one beats, the most accurate last, without duplicates."""
    possible = [found for first, then in permutations(records, 2) for found in _cascades(first, then)]
    best: dict[tuple[str, str, float], CascadeProposal] = {}
    for single in sorted(records, key=lambda record: (record.accuracy, -record.input_s)):
        enough = (one for one in possible if one.point.accuracy >= single.accuracy)
        cheapest = min(enough, key=lambda one: (one.input_s, -one.point.accuracy, one.first, one.then), default=None)
        if cheapest is None:
            continue
        saving = 1.0 - cheapest.input_s / single.input_s
        if saving >= _LEAST_SAVING and _cheapest_of(records, single):
            made = msgspec.structs.replace(cheapest, beats=single.variant, saving=saving)
            best[made.first, made.then, made.point.threshold] = made
    return tuple(best.values())


def _cascades(first: StageRecord, then: StageRecord) -> Iterator[CascadeProposal]:
    if first.input_s >= then.input_s or first.accuracy >= then.accuracy:
        return
    for point in cascade_curve(first.confidence, first.right, then.right):
        input_s = first.input_s + point.escalated * then.input_s + _JOINING_S
        yield CascadeProposal(first.variant, then.variant, point, input_s, "", 0.0)


def _cheapest_of(records: Sequence[StageRecord], single: StageRecord) -> bool:
    """Return true if no other variant is as accurate in less time; else beating this one proves nothing."""
    return not any(r.accuracy >= single.accuracy and r.input_s < single.input_s for r in records)


async def find_cascades(
    task: str,
    validation: Path,
    calibration: Path | None,
    pool: Pool,
    artifacts: ArtifactStore,
    progress: ProgressSink,
    *,
    publisher: str | None = None,
    runner: StepRunner = LOCAL,
) -> tuple[CascadeProposal, ...]:
    """Find the cascades of a task on CPUs that beat every single variant at equal accuracy.

    A `publisher` gets cascades of variants that it sees.

    Raises:
        InvalidRequest: the labelled file does not fit the task.
        OperatorError: there is no such task, or a variant does not run.
    """
    finder = StageFinder(pool, artifacts, runner, publisher)
    found = await finder.task(task)
    check_cascadable(found)
    stages = await finder.worth_trying(task, Hardware.CPU)
    processing = stages[0].architecture.processing
    scores = scores_of(found, (processing.scores if processing else found.measured_output) or None)
    split = await asyncio.to_thread(read_rows, found, scores, validation, calibration, SAMPLES)
    rows, records = split.calibrating, list[StageRecord]()
    with TemporaryDirectory(prefix="infaas-cascades-") as folder:
        for done, stage in enumerate(stages):
            progress.step(done, len(stages), f"{stage.variant.name}: computing {len(rows)} labelled inputs")
            outputs = await finder.outputs(stage, rows.inputs, Path(folder))
            records.append(
                StageRecord(
                    stage.variant.name,
                    stage.profile.latency[0].typical_s,
                    right_rows(found.measure, outputs[scores.name], rows.labels),
                    stage_confidence(outputs, *guess_confidence(scores.name, outputs)),
                )
            )
    progress.step(len(stages), len(stages), f"{task}: compared")
    return propose_cascades(records)


def requests_for(
    task: str, proposals: Sequence[CascadeProposal], validation: Path, calibration: Path | None, *, again: bool = False
) -> list[CascadeRequest]:
    """Return the requests for proposed cascades: one for each pair of stages, with all its thresholds."""
    thresholds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for proposal in proposals:
        thresholds[proposal.first, proposal.then].append(proposal.point.threshold)
    return [
        CascadeRequest(
            task=task,
            first=first,
            then=then,
            validation=validation,
            calibration=calibration,
            thresholds=tuple(chosen),
            again=again,
        )
        for (first, then), chosen in thresholds.items()
    ]
