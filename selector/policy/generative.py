"""Choice of the instance that makes a generative answer. Pure.

    1  cheapest    the cheapest loaded variant that is predicted to meet all needs; of its replicas the soonest
    2  cold start  for a query with a firm limit that no loaded variant could meet alone: the cheapest that is loaded
                   and answers in time
    3  soonest     for a query that may be late, or whose only limit is that of queries without needs: the soonest
    4  fallback    the same without anything loaded
    -  refusal     with the need that cannot be met, see `selector.policy.choice`

The prediction is that of continuous batching: an instance makes up to `sequences` answers at once, each by one token a
step. A query meets the answers that the instance makes already, and its own. While all places are taken, it waits for a
mean answer to end. Then

    TTFT     hops + wait + prompt, by the size of the record; of a cascade also the draft, as if the answer escalated
    TPOT     one step at the number of answers that it meets
    latency  TTFT + TPOT for each further token of the answer

The length of the answer is the median of the variant's answers (`selector.policy.learned_lengths`), at most
`max_tokens`; that of a draft their 99th percentile, since nothing of an answer can be shown before. The times are those
of the profile with the correction that the instance's worker has learned.

Upgrades and canaries do not apply: an answer takes a place for seconds, and texts of two versions cannot be compared.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from math import inf
from typing import Final
from zlib import crc32

import msgspec

from schemas.errors import Overloaded, RefusalReason
from schemas.generation_model import GenerationModel
from selector.policy.candidates import Candidate
from selector.policy.choice import (
    Choice,
    ChoiceContext,
    Refusal,
    deadline_passed,
    to_unloaded,
    unmet_needs,
    unsatisfiable,
    unserved,
)
from selector.policy.entities import Instance
from selector.policy.prediction import queued_inputs
from selector.policy.replicas import FEW, ReplicaGroup, some_of
from selector.policy.variants import PricedVariant

_REQUEST_BYTES: Final = 80
"""Bytes of the shortest request around its prompt, which the size of a record includes."""


class GenerationEstimate(msgspec.Struct, frozen=True, gc=False):
    """Predicted times of one answer, in seconds from now."""

    wait_s: float
    """Seconds until one of the instance's places is free."""
    ttft_s: float
    tpot_s: float
    total_s: float


class GenerationLimits(msgspec.Struct, frozen=True, gc=False):
    """Limits of one answer, in seconds from now; infinite without one."""

    ttft_s: float
    tpot_s: float
    total_s: float

    def admit(self, estimate: GenerationEstimate) -> bool:
        """Return true if an answer with these times meets the limits."""
        return not self.missed(estimate)

    def missed(self, estimate: GenerationEstimate) -> str:
        """Return the words for the first limit that an answer with these times misses; empty if it meets all."""
        if estimate.ttft_s > self.ttft_s:
            return "its first token would be late"
        if estimate.tpot_s > self.tpot_s:
            return "its tokens would be too slow"
        return "would be late" if estimate.total_s > self.total_s else ""


def limits_of(context: ChoiceContext) -> GenerationLimits:
    """Return the limits of a query; one without a need for time shall begin within the objective of such queries."""
    query, needs = context.query, context.query.needs
    total_s = inf if query.deadline_ms is None else query.deadline_ms / 1e3 - context.now
    tpot_s = inf if needs.tpot_ms is None else needs.tpot_ms / 1e3
    if needs.ttft_ms is not None:
        return GenerationLimits((query.sent_ms + needs.ttft_ms) / 1e3 - context.now, tpot_s, total_s)
    is_free = query.deadline_ms is None and not context.offline
    return GenerationLimits(context.config.default_latency_s if is_free else inf, tpot_s, total_s)


def estimate(context: ChoiceContext, instance: Instance, *, p99: bool = False) -> GenerationEstimate:
    """Return the predicted times of a query on a loaded instance: medians, or with `p99` the 99th percentiles."""
    made = int(instance.waiting(context.now) + instance.offline_inputs + 0.5) + instance.large_inputs
    variant = instance.variant
    model = variant.generation_of(instance.model.correction)
    assert model is not None, "of a generative task"
    return _estimate(context, variant, model, made, instance.worker.hop_s, instance.slowdown, p99=p99)


def unloaded_estimate(
    context: ChoiceContext, variant: PricedVariant, model: GenerationModel, *, p99: bool = False
) -> GenerationEstimate:
    """Return the predicted times of a query for which a variant must be loaded first."""
    queued = queued_inputs(variant, context.state)
    return _estimate(context, variant, model, queued, context.state.hop_s, load_s=variant.load_s, p99=p99)


def _idle_estimate(context: ChoiceContext, candidate: Candidate) -> GenerationEstimate | None:
    """Return the predicted times of a query on an otherwise idle system; None: the variant is not generative."""
    variant = candidate.variant
    model = variant.generation_of(candidate.replicas.least_correction)
    return None if model is None else _estimate(context, variant, model, 0, context.state.least_hop_s)


def _estimate(
    context: ChoiceContext,
    variant: PricedVariant,
    model: GenerationModel,
    made: int,
    hops_s: float,
    slowdown: float = 1.0,
    *,
    load_s: float = 0.0,
    p99: bool = False,
) -> GenerationEstimate:
    """Return the predicted times of a query that an instance gets beside `made` answers."""
    size, sequences = context.query.size, made + context.batch
    lengths = context.state.lengths.of(variant, model)
    prompt = model.prompt_tokens(size and max((size - _REQUEST_BYTES) // context.batch, 1))
    behind = max(sequences - model.sequences, 0)
    wait_s = load_s + behind * model.typical_s(model.sequences, lengths) / model.sequences * slowdown
    most = context.query.needs.max_tokens
    draft_s = model.draft_s(prompt, lengths.expected(most, p99=True), sequences, p99=p99)
    ttft_s = hops_s + wait_s + (draft_s + model.prefill_s(prompt, p99=p99)) * slowdown
    tpot_s = model.step_s(sequences, p99=p99) * slowdown
    total_s = ttft_s + (lengths.expected(most, p99=p99) - 1) * tpot_s
    return GenerationEstimate(wait_s, ttft_s, tpot_s, total_s)


def choose_generative(context: ChoiceContext) -> Choice | Refusal:
    """Choose the destination of a generative query."""
    limits = limits_of(context)
    for candidate in context.candidates.serving:
        found = _preferred_replica(context, candidate, limits)
        if found is not None:
            return found
    if _is_firm(context):
        return _cold_start(context, limits) or _refuse(context, limits)
    return _soonest(context) or _fallback(context) or _refuse(context, limits)


_NO_LIMITS: Final = GenerationLimits(inf, inf, inf)


def _is_firm(context: ChoiceContext) -> bool:
    """Return true if an answer that misses a need is worth nothing."""
    needs = context.query.needs
    has_limit = context.query.deadline_ms is not None or needs.ttft_ms is not None or needs.tpot_ms is not None
    return (has_limit and not needs.allow_late) or context.wait_s != inf


def _preferred_replica(context: ChoiceContext, candidate: Candidate, limits: GenerationLimits) -> Choice | None:
    """Return a replica of the selector's aperture that meets the limits, or of all if none there does."""
    replicas = candidate.replicas
    found = _soonest_replica(context, candidate, replicas.preferred(context.now), limits)
    if found is None and replicas.is_shared:
        return _soonest_replica(context, candidate, replicas.group, limits)
    return found


def _soonest_replica(
    context: ChoiceContext, candidate: Candidate, group: ReplicaGroup, limits: GenerationLimits
) -> Choice | None:
    """Return the replica of a group that ends first, of those examined, if it meets the limits."""
    if candidate.variant.generation is None:
        return None
    best: Instance | None = None
    best_s = inf
    for instance in _examined(context, group):
        if instance.worker.expires_at <= context.now:
            continue
        found = estimate(context, instance)
        if found.total_s < best_s and found.wait_s <= context.wait_s and limits.admit(found):
            best, best_s = instance, found.total_s
    if best is None:
        return None
    return Choice(candidate.variant, best.next_partition, best, best_s, candidate.cost, candidate.cost_header)


def _examined(context: ChoiceContext, group: ReplicaGroup) -> Sequence[Instance]:
    """Return all replicas of a group if they are few, else some, some idle ones, and the one that is free first."""
    if len(group.members) <= FEW:
        return group.members.items
    soonest = group.soonest()
    drawn = some_of(group, crc32(context.query.id.encode()))
    return [*islice(group.idle, FEW), *drawn, *(() if soonest is None else (soonest,))]


def _cold_start(context: ChoiceContext, limits: GenerationLimits) -> Choice | None:
    """Return the cheapest variant that is loaded and answers in time, unless a loaded one is only too busy."""
    if any(_fits_alone(context, candidate, limits) for candidate in context.candidates.serving):
        return None
    for candidate in context.candidates.registered.unloaded:
        variant = candidate.variant
        if variant.generation is not None:
            found = unloaded_estimate(context, variant, variant.generation)
            if limits.admit(found):
                return to_unloaded(context, candidate, found.total_s)
    return None


def _fits_alone(context: ChoiceContext, candidate: Candidate, limits: GenerationLimits) -> bool:
    """Return true if an idle instance of a candidate would meet the limits."""
    alone = _idle_estimate(context, candidate)
    return alone is not None and limits.admit(alone)


def _soonest(context: ChoiceContext) -> Choice | None:
    """Return the loaded instance that ends first, for a query that may be late."""
    found = (
        _soonest_replica(context, candidate, candidate.replicas.group, _NO_LIMITS)
        for candidate in context.candidates.serving
    )
    return min(filter(None, found), key=lambda choice: choice.predicted_s, default=None)


def _fallback(context: ChoiceContext) -> Choice | None:
    """Return a variant that is likely to be loaded soon, for a query that may be late."""
    candidate = context.candidates.registered.fallback
    if candidate is None or candidate.variant.generation is None:
        return None
    total_s = unloaded_estimate(context, candidate.variant, candidate.variant.generation).total_s
    return to_unloaded(context, candidate, total_s)


# -- refusals ----------------------------------------------------------------------------------------------------------


def _refuse(context: ChoiceContext, limits: GenerationLimits) -> Refusal:
    """Return the refusal of a query for which there is no choice."""
    eligible = context.candidates.registered.eligible
    firm, at_send = _is_firm(context), _from_send(context, limits)
    if not eligible or (firm and not any(_fits_alone(context, candidate, at_send) for candidate in eligible)):
        return unsatisfiable(context, partial(_unmet_needs, context, at_send if firm else _NO_LIMITS))
    if firm and min(limits.total_s, limits.ttft_s) <= 0:
        return deadline_passed("the query was read")
    if context.candidates.serving:
        contended = context.candidates.serving[0]
        error = Overloaded(reason=RefusalReason.INSTANCES_BUSY, retry_after_s=_place_s(context, contended))
        return Refusal(error, contended=contended)
    return unserved(context, lambda candidate: _fits_alone(context, candidate, at_send))


def _from_send(context: ChoiceContext, limits: GenerationLimits) -> GenerationLimits:
    """Return the limits as they were when the query was sent: needs beyond them are unsatisfiable at any load."""
    passed_s = max(context.now - context.query.sent_ms / 1e3, 0.0)
    return GenerationLimits(limits.ttft_s + passed_s, limits.tpot_s, limits.total_s + passed_s)


def _place_s(context: ChoiceContext, candidate: Candidate) -> float:
    """Return the seconds until an instance of a variant has a free place, at least those of one token."""
    model = candidate.variant.generation
    assert model is not None, "of a generative task"
    instances = islice(candidate.replicas, FEW)
    return max(min((estimate(context, one).wait_s for one in instances), default=0.0), model.step_s(1))


def _unmet_needs(context: ChoiceContext, limits: GenerationLimits, candidate: Candidate) -> list[tuple[float, str]]:
    """Return each need that an idle instance of a candidate fails: the relative distance, and its description."""
    found, alone = unmet_needs(candidate, context.query), _idle_estimate(context, candidate)
    if alone is None:
        return found
    for took_s, limit_s, what in (
        (alone.ttft_s, limits.ttft_s, "takes {} to the first token where {} are allowed"),
        (alone.tpot_s, limits.tpot_s, "takes {} a token where {} are allowed"),
        (alone.total_s, limits.total_s, "takes {} for the answer where {} are allowed"),
    ):
        if took_s > limit_s:
            words = what.format(f"{took_s * 1e3:.3g} ms", f"{max(limit_s, 0.0) * 1e3:.3g} ms")
            found.append((took_s / max(limit_s, 1e-6) - 1, words))
    return found
