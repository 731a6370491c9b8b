"""Throughput of a slot by profile, and what was measured against profiles: slowdowns, and the lengths of answers."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Final, NamedTuple

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ClusterSnapshot
from schemas.answer_lengths import LengthCounts
from schemas.generation_model import GenerationModel
from schemas.latency import LatencyModel

_MOST_SLOWDOWN: Final = 4.0
_LEAST_BUSY: Final = 0.1
_LEAST_GAIN: Final = 1.05
"""Factor by which a larger batch must raise the throughput, if latency counts."""
_MOST_PROFILED: Final = 65_536
"""Number of cached throughputs: one for each variant and limit of latency."""


class SlotThroughput(NamedTuple):
    """Throughput of a slot."""

    rate: float
    """Inputs a second; for a batch that takes several slots, the share of one slot."""
    batch: int
    """Batch size that reaches it."""


def best_throughput(latency: LatencyModel, budget_s: float, slowdown: float, mean_batch: float) -> SlotThroughput:
    """Return the highest throughput of a slot that answers each input within `budget_s`; 0 if no batch size can.

    With a budget, the batch is the smallest that comes near it, because queries of others wait for it in the same slot.
    """
    least_batch = max(math.ceil(mean_batch), 1)
    if slowdown == 1.0:
        return _profiled(latency, budget_s, least_batch)
    return _best(latency, budget_s, slowdown, least_batch)


@lru_cache(_MOST_PROFILED)
def _profiled(latency: LatencyModel, budget_s: float, least_batch: int) -> SlotThroughput:
    """Return the throughput without slowdown, cached because each decision asks for the same ones."""
    return _best(latency, budget_s, 1.0, least_batch)


def _best(latency: LatencyModel, budget_s: float, slowdown: float, batch: int) -> SlotThroughput:
    best_rate, best_batch = 0.0, 0
    least_gain = 1.0 if budget_s == math.inf else _LEAST_GAIN
    while True:
        promised_s = max(latency.promised_s(batch) * slowdown, 1e-9)
        if promised_s > budget_s:  # so are larger batches
            return SlotThroughput(best_rate, best_batch)
        busy = min(max(budget_s / promised_s - 1.0, _LEAST_BUSY), 1.0)
        rate = busy * batch / max(latency.batch_s(batch) * slowdown, 1e-9)
        if rate >= best_rate * least_gain:
            best_rate, best_batch = rate, batch
        if batch >= latency.max_batch:
            return SlotThroughput(best_rate, best_batch)
        batch = min(batch * 2, latency.max_batch)


def answer_throughput(model: GenerationModel, tokens: float, budget_s: float, slowdown: float) -> SlotThroughput:
    """Return the highest throughput in answers of `tokens` tokens that each end within `budget_s`; 0 if none can.

    Answers begin as soon as a place is free, so no share of the budget is for the end of a batch.
    """
    best = SlotThroughput(0.0, 0)
    for sequences in range(1, model.sequences + 1):
        seconds = max(model.together_s(sequences, tokens) * slowdown, 1e-9)
        if model.promised_s(sequences, tokens) * slowdown <= budget_s and sequences / seconds > best.rate:
            best = SlotThroughput(sequences / seconds, sequences)
    return best


class AnswerTokens:
    """Mean tokens of the answers of generative variants, by what they have answered recently."""

    def __init__(self, candidates: Sequence[RunnableVariant], snapshot: ClusterSnapshot) -> None:
        tasks = {candidate.name: candidate.variant.task for candidate in candidates}
        self._variants: defaultdict[str, LengthCounts] = defaultdict(LengthCounts)
        self._tasks: defaultdict[str, LengthCounts] = defaultdict(LengthCounts)
        for load in snapshot.instance_loads:
            if load.answer_lengths and load.variant in tasks:
                self._variants[load.variant].add(load.answer_lengths)
                self._tasks[tasks[load.variant]].add(load.answer_lengths)

    def mean(self, candidate: RunnableVariant, model: GenerationModel) -> float:
        """Return the mean of a candidate; that of its profile as long as its task has no answers."""
        task = self._tasks[candidate.variant.task]
        return self._variants[candidate.name].lengths(model.lengths.median, task).mean


def headroom_of(busy_slots: float, headroom: float) -> float:
    """Return the ratio of planned slots to busy ones.

    Args:
        busy_slots: slots that the load keeps busy.
        headroom: ratio for one busy slot. The spare grows with the square root of the busy slots, because the variation
            of the load does (square-root staffing): with `headroom` 1.4, one busy slot has 0.4 to spare, and 16 have
            1.6.
    """
    return 1.0 + (headroom - 1.0) / math.sqrt(max(busy_slots, 1.0))


def spread_count(slots: float, instance_slots: float) -> int:
    """Return the number of instances for a load of `slots`, if the load keeps several workers busy and memory allows.

    They are four times as many as would do, and four more. Instances of different variants share the slots of their
    workers: queries of a variant with few instances, above all bursts of them, wait there for those of others while
    other workers are idle.
    """
    return math.ceil(4.0 * slots / instance_slots) + 4


class Slowdowns:
    """Slowdown of each variant against its profile: the larger of its own and that of its hardware.

    Measurements are weighted by computing time, so that rare batches count little.
    """

    def __init__(self, candidates: Sequence[RunnableVariant], snapshot: ClusterSnapshot) -> None:
        known = {candidate.name: candidate for candidate in candidates}
        slowdowns: defaultdict[str, list[float]] = defaultdict(list)
        busy: defaultdict[str, list[float]] = defaultdict(list)
        for load in snapshot.instance_loads:
            if load.variant in known and load.inputs_per_s > 0:
                candidate = known[load.variant]
                slowdown = min(max(load.slowdown, 1.0), _MOST_SLOWDOWN)
                slots = load.inputs_per_s * candidate.latency.input_s()
                # Interference affects all variants of the hardware; a wrong profile (`correction`) only its own
                # variant.
                for name, factor in ((candidate.name, load.correction), (candidate.variant.hardware, 1.0)):
                    slowdowns[name].append(slowdown * factor)
                    busy[name].append(slots)
        self.means = {name: fmean(found, busy[name]) for name, found in slowdowns.items()}

    def of(self, candidate: RunnableVariant) -> float:
        """Return the slowdown of a candidate, at least 1."""
        return max(self.means.get(candidate.name, 1.0), self.means.get(candidate.variant.hardware, 1.0))


class PresentThroughputs:
    """Throughputs of a slot at the present slowdowns and lengths of answers."""

    def __init__(self, candidates: Sequence[RunnableVariant], snapshot: ClusterSnapshot) -> None:
        self._slowdowns = Slowdowns(candidates, snapshot)
        self._tokens = AnswerTokens(candidates, snapshot)

    def of(self, candidate: RunnableVariant, budget_s: float, mean_batch: float) -> SlotThroughput:
        """Return the present rate of a candidate, 0 if it is too slow, and the batch size by its profile."""
        slowdown, model = self._slowdowns.of(candidate), candidate.generation
        if model is not None:
            return answer_throughput(model, self._tokens.mean(candidate, model), budget_s, slowdown)
        profiled = best_throughput(candidate.latency, budget_s, 1.0, mean_batch)
        if slowdown == 1.0:
            return profiled
        return SlotThroughput(best_throughput(candidate.latency, budget_s, slowdown, mean_batch).rate, profiled.batch)
