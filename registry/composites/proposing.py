"""Finds the cascades of a task that are worth registering, by what its variants answer to labelled rows."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from registry.artifacts import ArtifactStore
from registry.composites.calibration import right_rows
from registry.composites.cascades import SAMPLES, CascadeRequest
from registry.composites.labelled_rows import read_rows, scores_of
from registry.composites.proposals import CascadeProposal, StageRecord, propose_cascades
from registry.composites.stage_records import StageFinder
from registry.registration import ProgressSink
from runtimes.composite import CASCADE, CHAIN
from runtimes.confidence import confidence_of, guess_measure
from schemas.hardware import Hardware
from schemas.rows.catalog import Profile, Variant, VariantState
from store.pool import Pool
from store.registry import list_profiles, list_variants

_MOST_STAGES: Final = 12


async def find_cascades(
    task: str,
    validation: Path,
    calibration: Path | None,
    pool: Pool,
    artifacts: ArtifactStore,
    progress: ProgressSink,
    *,
    hardware: str = Hardware.CPU,
) -> tuple[CascadeProposal, ...]:
    """Find the cascades that beat every single variant of a task at equal accuracy.

    Raises:
        InvalidRequest: the labelled file does not fit the task.
        OperatorError: there is no such task, or a variant does not run here.
    """
    finder = StageFinder(pool, artifacts)
    found = await finder.task(task)
    scores = scores_of(found, None)
    split = await asyncio.to_thread(read_rows, found, scores, validation, calibration, SAMPLES)
    stages = _worth_trying(
        await list_variants(pool, task=task, state=VariantState.READY), await list_profiles(pool, task=task), hardware
    )
    records: list[StageRecord] = []
    with TemporaryDirectory(prefix="infaas-cascades-") as folder:
        for done, (variant, profile) in enumerate(stages):
            progress.step(done, len(stages), f"{variant.name}: answering {len(split.calibrating)} labelled inputs")
            outputs = await finder.outputs([variant], split.calibrating.inputs, Path(folder), profile.threads)
            answers = outputs[0][scores.name]
            right, confidence = (
                right_rows(answers, split.calibrating.labels),
                confidence_of(answers, guess_measure(answers)),
            )
            records.append(StageRecord(variant.name, profile.latency[0].typical_s, right, confidence))
    progress.step(len(stages), len(stages), f"{task}: compared")
    return propose_cascades(records)


def requests_for(
    task: str, proposals: Sequence[CascadeProposal], validation: Path, calibration: Path | None, *, again: bool = False
) -> list[CascadeRequest]:
    """The registrations of proposed cascades: one for each pair of stages, with all its thresholds."""
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


def _worth_trying(
    variants: Sequence[Variant], profiles: Sequence[Profile], hardware: str
) -> list[tuple[Variant, Profile]]:
    """Single variants that no other beats in both accuracy and the time of an input, the cheapest first."""
    measured = {profile.variant: profile for profile in profiles}
    singles = [
        (variant, measured[variant.name])
        for variant in variants
        if variant.name in measured and variant.hardware == hardware and variant.runtime not in (CASCADE, CHAIN)
    ]
    best, accuracy = list[tuple[Variant, Profile]](), -1.0
    for variant, profile in sorted(singles, key=lambda one: (one[1].latency[0].typical_s, -one[1].accuracy)):
        if profile.accuracy > accuracy:
            best.append((variant, profile))
            accuracy = profile.accuracy
    return best[-_MOST_STAGES:]
