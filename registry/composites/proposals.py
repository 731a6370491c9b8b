"""Proposes cascades: those that beat every single variant at equal accuracy. Pure.

For each variant of a task the cheapest cascade of two others is sought that is at least as accurate; where it takes a
fifth less time for an input, it is proposed. Which those are depends on where the first stage is sure and wrong, which
no profile says: it is counted on labelled rows that every variant has computed.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.composites.calibration import cascade_curve
from schemas.registrations import CascadePoint

LEAST_SAVING: Final = 0.2
_JOINING_S: Final = 50e-6
"""Seconds that it takes beside the stages to see what is sure and to put the answers together, about."""


class StageRecord(msgspec.Struct, frozen=True):
    """What is known of a variant that may become a stage."""

    variant: str
    input_s: float
    """Seconds that an input takes alone."""
    right: NDArray[np.bool_]
    """Whether its answer is right, of each of the rows that all have computed."""
    confidence: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of the rows that it is right on."""
        return float(self.right.mean())


class CascadeProposal(msgspec.Struct, frozen=True):
    """A cascade that is worth registering."""

    first: str
    then: str
    point: CascadePoint
    input_s: float
    """Mean seconds that an input takes alone."""
    beats: str
    """The variant that is no more accurate and takes longer."""
    saving: float
    """Share of that variant's time that is saved."""


def propose_cascades(records: Sequence[StageRecord], least_saving: float = LEAST_SAVING) -> tuple[CascadeProposal, ...]:
    """The best cascade for each variant that one beats, the most accurate last; none twice."""
    possible = [found for first, then in permutations(records, 2) for found in _cascades(first, then)]
    best: dict[tuple[str, str, float], CascadeProposal] = {}
    for single in sorted(records, key=lambda record: (record.accuracy, -record.input_s)):
        enough = (one for one in possible if one.point.accuracy >= single.accuracy)
        cheapest = min(enough, key=lambda one: (one.input_s, -one.point.accuracy, one.first, one.then), default=None)
        if cheapest is None:
            continue
        saving = 1.0 - cheapest.input_s / single.input_s
        if saving >= least_saving and _cheapest_of(records, single):
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
    """Whether no other variant is as accurate for less: else to beat this one is no merit."""
    return not any(r.accuracy >= single.accuracy and r.input_s < single.input_s for r in records)
