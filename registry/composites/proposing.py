"""Finds the cascades of a task that are worth registering, from its variants' answers to labelled rows."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from registry.artifacts import ArtifactStore
from registry.composites.calibration import right_rows
from registry.composites.cascades import SAMPLES, CascadeRequest, check_cascadable
from registry.composites.labelled_rows import read_rows, scores_of
from registry.composites.proposals import CascadeProposal, StageRecord, propose_cascades
from registry.composites.stage_records import StageFinder
from registry.registration import ProgressSink
from registry.step_runner import LOCAL, StepRunner
from runtimes.confidence import confidence_of, guess_measure
from schemas.hardware import Hardware
from store.pool import Pool


async def find_cascades(
    task: str,
    validation: Path,
    calibration: Path | None,
    pool: Pool,
    artifacts: ArtifactStore,
    progress: ProgressSink,
    *,
    hardware: str = Hardware.CPU,
    publisher: str | None = None,
    runner: StepRunner = LOCAL,
) -> tuple[CascadeProposal, ...]:
    """Find the cascades of a task that beat every single variant at equal accuracy.

    A `publisher` gets cascades of variants that it sees.

    Raises:
        InvalidRequest: the labelled file does not fit the task.
        OperatorError: there is no such task, or a variant does not run.
    """
    finder = StageFinder(pool, artifacts, runner, publisher)
    found = await finder.task(task)
    check_cascadable(found)
    stages = await finder.worth_trying(task, hardware)
    processing = stages[0].architecture.processing
    scores = scores_of(found, (processing.scores if processing else found.measured_output) or None)
    split = await asyncio.to_thread(read_rows, found, scores, validation, calibration, SAMPLES)
    rows, records = split.calibrating, list[StageRecord]()
    with TemporaryDirectory(prefix="infaas-cascades-") as folder:
        for done, stage in enumerate(stages):
            progress.step(done, len(stages), f"{stage.variant.name}: computing {len(rows)} labelled inputs")
            outputs = await finder.outputs(stage, rows.inputs, Path(folder))
            answers = outputs[scores.name]
            records.append(
                StageRecord(
                    stage.variant.name,
                    stage.profile.latency[0].typical_s,
                    right_rows(answers, rows.labels),
                    confidence_of(answers, guess_measure(answers)),
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
