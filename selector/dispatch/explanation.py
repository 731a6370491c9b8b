"""Explanation of a choice: every variant considered, its prediction, and the reason why it lost.

Computed separately from the same cluster state and time, only for queries that request it, and for some of the sampled
ones. It may be slow, and costs the policy nothing.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from schemas.errors import RefusalReason
from schemas.generation_model import GenerationModel
from schemas.query import Mode, Query
from schemas.rows.catalog import ACCURACY
from selector.policy.candidates import TaskCandidates
from selector.policy.choice import Choice, ChoiceContext, PolicyConfig, Refusal, context_of
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.generative import estimate, limits_of, unloaded_estimate
from selector.policy.prediction import cold_start_finish_s, finish_s
from selector.policy.replicas import NOBODY
from selector.policy.variants import PricedVariant, size_class

_MAX_LISTED: Final = 50
_encode: Final = msgspec.json.Encoder().encode
CHOSEN: Final = "chosen"
GIVEN: Final = "a more accurate one is idle, and is given at the cheapest's cost"
COSTS_MORE: Final = "costs more"
NOT_LOADED: Final = "is not loaded"
LEFT_TO_OTHERS: Final = "is left to others: there are too many queries"


class ConsideredVariant(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One variant that might have answered, on one worker if it is loaded."""

    variant: str
    accuracy: float
    cost: float
    worker: str = ""
    predicted_ms: float | None = None
    ttft_ms: tuple[float, float] | None = None
    """Of a generative answer: median and p99 of the time to its first token."""
    tpot_ms: tuple[float, float] | None = None
    """Of a generative answer: median and p99 of the time of each further token."""
    answer_tokens: tuple[int, int] | None = None
    """Of a generative answer: median and p99 of its tokens, by what the variant has answered so far."""
    verdict: str


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Content of the header `infaas-explanation`, as JSON."""

    task: str
    measure: str = ACCURACY
    """Measure of quality that `accuracy` means for this task, if not the share of correct answers."""
    slack_ms: float | None = None
    """Milliseconds until the deadline at the time of the choice."""
    chosen: str = ""
    worker: str = ""
    predicted_ms: float | None = None
    ttft_ms: tuple[float, float] | None = None
    """Of a generative answer: predicted median and p99 of the time to its first token."""
    tpot_ms: tuple[float, float] | None = None
    """Of a generative answer: predicted median and p99 of the time of each further token."""
    upgraded: bool = False
    """True if a more accurate variant is given at the cost of the cheapest."""
    reason: str
    refusal: RefusalReason | None = None
    """Reason of the refusal as in the header `infaas-reason`, if the query was refused."""
    considered: list[ConsideredVariant]
    not_listed: int = 0


def explain(query: Query, state: ClusterState, now: float, config: PolicyConfig, outcome: Choice | Refusal) -> bytes:
    """Return the explanation of `outcome`, which `choose` returned for the same arguments, as JSON."""
    return _encode(explanation_of(query, state, now, config, outcome))


def explanation_of(
    query: Query, state: ClusterState, now: float, config: PolicyConfig, outcome: Choice | Refusal
) -> Explanation:
    """Return the explanation of `outcome`, which `choose` returned for the same arguments."""
    task = state.seen_in(query)
    slack_s = None if query.deadline_ms is None else query.deadline_ms / 1000 - now
    considered: list[ConsideredVariant] = []
    not_listed = 0
    if task is not None:
        context = context_of(query, state, now, config) if task.is_generative else None
        for variant in sorted(task.variants, key=lambda variant: _cost(variant, query)):
            if variant.generation is None:
                predict = partial(_predict, variant, query, state, now, slack_s)
                considered += _rows(variant, task, query, now, outcome, predict)
            elif context is not None:
                predict = partial(_predict_answer, variant, variant.generation, context)
                considered += _rows(variant, task, query, now, outcome, predict)
            not_listed += max(len(task.serving.get(variant.name, NOBODY)) - _MAX_LISTED, 0)
    considered.sort(key=lambda row: row.verdict != CHOSEN)
    is_choice = isinstance(outcome, Choice)
    taken = next((row for row in considered if is_choice and row.verdict == CHOSEN), None)
    return Explanation(
        task=query.task,
        measure=ACCURACY if task is None else task.measure,
        slack_ms=None if slack_s is None else _ms(slack_s),
        chosen=outcome.variant.name if is_choice else "",
        worker=outcome.instance.worker.name if is_choice and outcome.instance else "",
        predicted_ms=_ms(outcome.predicted_s) if is_choice else None,
        ttft_ms=None if taken is None else taken.ttft_ms,
        tpot_ms=None if taken is None else taken.tpot_ms,
        upgraded=is_choice and outcome.upgraded,
        reason=_version_reason(task, query, outcome) or _reason(outcome, slack_s, config),
        refusal=None if is_choice else outcome.error.reason,
        considered=considered[:_MAX_LISTED],
        not_listed=max(len(considered) - _MAX_LISTED, 0) + not_listed,
    )


def _version_reason(task: TaskCandidates | None, query: Query, outcome: Choice | Refusal) -> str:
    """Return the reason why a version other than the serving one answers; empty if the serving one does."""
    if task is None or isinstance(outcome, Refusal) or task.is_target(outcome.variant, query.needs.target):
        return ""
    version = task.version_names.get(outcome.variant.architecture, "")
    if any(rollout.candidate_target == version for rollout in task.canaries):
        return f"{version} is tried on a share of the queries, and this query is drawn by its id"
    return f"{version} answers until an instance of the serving version is loaded"


def _reason(outcome: Choice | Refusal, slack_s: float | None, config: PolicyConfig) -> str:
    if isinstance(outcome, Refusal):
        return f"{outcome.error.code}: {outcome.error}"
    if outcome.upgraded:
        return "more accurate than the cheapest that meets the needs, idle, and given at the cheapest's cost"
    if outcome.instance is None:
        return "nothing loaded meets the needs in time; this variant is requested, and the query waits in its topic"
    limit_s = config.default_latency_s if slack_s is None else slack_s
    if outcome.predicted_s > limit_s:
        return "nothing is predicted to finish in time; this is the soonest"
    return "the cheapest that meets the needs and is predicted to finish in time"


def _listed(task: TaskCandidates, variant: PricedVariant, outcome: Choice | Refusal) -> list[Instance]:
    """Return the replicas of a variant to list: the first few, with the chosen one among them."""
    replicas = task.serving.get(variant.name, NOBODY)
    listed = list(islice(replicas, _MAX_LISTED))
    chosen = outcome.instance if isinstance(outcome, Choice) else None
    if chosen is not None and chosen in replicas and chosen not in listed:
        listed[-1] = chosen
    return listed


class _Prediction(NamedTuple):
    """Predicted times of a query on an instance of a variant, or of one that must be loaded first."""

    total_s: float
    missed: str
    """Words for the need for time that is missed; empty if none is."""
    ttft_ms: tuple[float, float] | None = None
    tpot_ms: tuple[float, float] | None = None
    answer_tokens: tuple[int, int] | None = None


def _rows(
    variant: PricedVariant,
    task: TaskCandidates,
    query: Query,
    now: float,
    outcome: Choice | Refusal,
    predict: Callable[[Instance | None], _Prediction],
) -> list[ConsideredVariant]:
    """Return a row for each listed replica of a variant, or one row if it is not loaded."""
    cost = _cost(variant, query)
    misfit = _misfit(task, variant, query, cost)
    choice = outcome if isinstance(outcome, Choice) else None

    def row(instance: Instance | None) -> ConsideredVariant:
        predicted = predict(instance)
        if instance is None:
            chosen = choice is not None and choice.variant is variant
            verdict = _not_loaded(variant, predicted.missed, task.load_failure(variant))
        else:
            chosen = choice is not None and choice.instance is instance
            silent = "its worker sends no status" if instance.worker.expires_at <= now else ""
            verdict = silent or predicted.missed or _beaten(variant, cost, predicted.total_s, outcome)
        return ConsideredVariant(
            variant=variant.name,
            accuracy=variant.accuracy,
            cost=cost,
            worker="" if instance is None else instance.worker.name,
            predicted_ms=_ms(predicted.total_s),
            ttft_ms=predicted.ttft_ms,
            tpot_ms=predicted.tpot_ms,
            answer_tokens=predicted.answer_tokens,
            verdict=CHOSEN if chosen else misfit or verdict,
        )

    return [row(instance) for instance in _listed(task, variant, outcome) or (None,)]


def _predict(
    variant: PricedVariant, query: Query, state: ClusterState, now: float, slack_s: float | None,
    instance: Instance | None,
) -> _Prediction:  # fmt: skip
    if instance is None:
        total_s = cold_start_finish_s(variant, query.batch, state)
    else:
        total_s = finish_s(instance, query.batch, now, query.needs.mode is Mode.OFFLINE, query.due_s)
    return _Prediction(total_s, "would be late" if slack_s is not None and total_s > slack_s else "")


def _predict_answer(
    variant: PricedVariant, model: GenerationModel, context: ChoiceContext, instance: Instance | None
) -> _Prediction:
    median, p99 = (
        unloaded_estimate(context, variant, model, p99=is_p99)
        if instance is None
        else estimate(context, instance, p99=is_p99)
        for is_p99 in (False, True)
    )
    lengths, most = context.state.lengths.of(variant, model), context.query.needs.max_tokens
    return _Prediction(
        median.total_s,
        limits_of(context).missed(median),
        (_ms(median.ttft_s), _ms(p99.ttft_s)),
        (_ms(median.tpot_s), _ms(p99.tpot_s)),
        (lengths.expected(most), lengths.expected(most, p99=True)),
    )


def _misfit(task: TaskCandidates, variant: PricedVariant, query: Query, cost: float) -> str:
    needs = query.needs
    if not task.is_target(variant, needs.target):
        return "is of a version that does not serve" if needs.target is None else f"is not {needs.target}"
    if needs.min_accuracy is not None and variant.accuracy < needs.min_accuracy:
        return "is not accurate enough"
    if needs.max_cost is not None and cost > needs.max_cost:
        return "costs too much"
    return ""


def _beaten(variant: PricedVariant, cost: float, predicted_s: float, outcome: Choice | Refusal) -> str:
    if isinstance(outcome, Refusal):
        return LEFT_TO_OTHERS
    if variant is outcome.variant:
        return "another replica was taken"
    if outcome.upgraded:
        if variant.accuracy > outcome.variant.accuracy:
            return "is not idle enough to be given away"
        return GIVEN if variant.accuracy < outcome.variant.accuracy else "another as accurate is given"
    if cost > outcome.cost:
        return COSTS_MORE
    return "finishes later" if predicted_s >= outcome.predicted_s else LEFT_TO_OTHERS


def _not_loaded(variant: PricedVariant, missed: str, failure: str) -> str:
    if failure:
        return f"cannot be loaded: {failure}"
    return f"is not loaded, and loading takes {variant.load_s:.1f} s" if missed else NOT_LOADED


def _cost(variant: PricedVariant, query: Query) -> float:
    return variant.cost(size_class(query.batch), query.needs.mode is Mode.OFFLINE)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
