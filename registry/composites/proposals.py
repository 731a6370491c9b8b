"""Proposes cascades that beat every single variant at equal accuracy. Pure.

For each variant of a task, the cheapest cascade with at least its accuracy is sought. It is proposed if an input takes
at least a fifth less time. The accuracy of a cascade depends on the rows on which the first stage is
confident and wrong, which no profile contains; it is counted on labelled rows that every variant has computed.
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


def propose_cascades(records: Sequence[StageRecord], least_saving: float = LEAST_SAVING) -> tuple[CascadeProposal, ...]:
    """Return the best cascade for each variant that one beats, the most accurate last, without duplicates."""
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
    """Return true if no other variant is as accurate in less time; else beating this one proves nothing."""
    return not any(r.accuracy >= single.accuracy and r.input_s < single.input_s for r in records)
