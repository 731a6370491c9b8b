"""Why a query went where it went: every variant considered, what was predicted of it, and why it lost.

Worked out a second time, from the same world at the same time, only for queries that ask. It may be slow; the policy
pays nothing for it.
"""

from typing import Final

import msgspec

from schemas.needs import Mode
from schemas.query import Query
from selector.cluster_state import ClusterState
from selector.cost import size_class
from selector.entities import Instance
from selector.policy import Choice, PolicyConfig, Refusal
from selector.prediction import cold_start_finish_s, finish_s
from selector.variants import PricedVariant

_MOST_LISTED: Final = 50


class ConsideredVariant(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One variant, on one worker if it is loaded."""

    variant: str
    accuracy: float
    cost: float
    worker: str = ""
    predicted_ms: float | None = None
    verdict: str


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What `infaas-explanation` holds, as JSON."""

    task: str
    slack_ms: float | None = None
    """Left until the deadline when it was decided."""
    chosen: str = ""
    worker: str = ""
    predicted_ms: float | None = None
    upgraded: bool = False
    """Whether a more accurate variant is given at the cost of the cheapest."""
    reason: str
    considered: list[ConsideredVariant]
    not_listed: int = 0


_encode = msgspec.json.Encoder().encode


def explain(query: Query, world: ClusterState, now: float, rules: PolicyConfig, outcome: Choice | Refusal) -> bytes:
    """The explanation of `outcome`, which `choose` returned for the same arguments."""
    view = world.tasks.get(query.task)
    offers = [] if view is None else sorted(view.offers, key=lambda offer: _cost(offer, query))
    slack_s = None if query.deadline_ms is None else query.deadline_ms / 1000 - now
    considered = [
        row
        for offer in offers
        for row in _rows(offer, view.serving.get(offer.name, []) if view else [], query, world, now, slack_s, outcome)
    ]
    considered.sort(key=lambda row: row.verdict != _CHOSEN)
    is_choice = isinstance(outcome, Choice)
    return _encode(
        Explanation(
            task=query.task,
            slack_ms=None if slack_s is None else _ms(slack_s),
            chosen=outcome.offer.name if is_choice else "",
            worker=outcome.instance.worker.name if is_choice and outcome.instance else "",
            predicted_ms=_ms(outcome.predicted_s) if is_choice else None,
            upgraded=is_choice and outcome.upgraded,
            reason=_reason(outcome, slack_s, rules),
            considered=considered[:_MOST_LISTED],
            not_listed=max(len(considered) - _MOST_LISTED, 0),
        )
    )


_CHOSEN: Final = "chosen"
_GIVEN: Final = "a more accurate one is idle, and is given at the cheapest's cost"


def _reason(outcome: Choice | Refusal, slack_s: float | None, rules: PolicyConfig) -> str:
    if isinstance(outcome, Refusal):
        return f"{outcome.error.code}: {outcome.error}"
    if outcome.upgraded:
        return "more accurate than the cheapest that meets the needs, idle, and given at the cheapest's cost"
    if outcome.instance is None:
        return "nothing loaded meets the needs in time; this variant is asked for and the query waits in its topic"
    limit_s = rules.default_latency_s if slack_s is None else slack_s
    if outcome.predicted_s > limit_s:
        return "nothing is predicted to finish in time; this is the soonest"
    return "the cheapest that meets the needs and is predicted to finish in time"


def _rows(
    offer: PricedVariant,
    replicas: list[Instance],
    query: Query,
    world: ClusterState,
    now: float,
    slack_s: float | None,
    outcome: Choice | Refusal,
) -> list[ConsideredVariant]:
    cost = _cost(offer, query)
    rows: list[ConsideredVariant] = []
    for instance in replicas:
        chosen = isinstance(outcome, Choice) and outcome.instance is instance
        predicted_s = finish_s(instance, query.batch, now, query.needs.mode is Mode.OFFLINE)
        verdict = (
            _CHOSEN
            if chosen
            else _misfit(offer, query, cost)
            or _unfit(instance, predicted_s, slack_s, now)
            or _beaten(offer, cost, predicted_s, outcome)
        )
        rows.append(
            ConsideredVariant(
                variant=offer.name,
                accuracy=offer.accuracy,
                cost=cost,
                worker=instance.worker.name,
                predicted_ms=_ms(predicted_s),
                verdict=verdict,
            )
        )
    if rows:
        return rows
    chosen = isinstance(outcome, Choice) and outcome.offer is offer
    predicted_s = cold_start_finish_s(offer, query.batch, world)
    lost = _misfit(offer, query, cost) or _not_loaded(offer, predicted_s, slack_s)
    return [
        ConsideredVariant(
            variant=offer.name,
            accuracy=offer.accuracy,
            cost=cost,
            predicted_ms=_ms(predicted_s),
            verdict=_CHOSEN if chosen else lost,
        )
    ]


def _misfit(offer: PricedVariant, query: Query, cost: float) -> str:
    needs = query.needs
    if needs.target is not None and needs.target not in (offer.name, offer.architecture):
        return f"is not {needs.target}"
    if needs.min_accuracy is not None and offer.accuracy < needs.min_accuracy:
        return "is not accurate enough"
    if needs.max_cost is not None and cost > needs.max_cost:
        return "costs too much"
    return ""


def _unfit(instance: Instance, predicted_s: float, slack_s: float | None, now: float) -> str:
    if instance.worker.gone_at <= now:
        return "its worker has not been heard of"
    if slack_s is not None and predicted_s > slack_s:
        return "would be late"
    if not instance.healthy:
        return "is overloaded"
    return ""


def _beaten(offer: PricedVariant, cost: float, predicted_s: float, outcome: Choice | Refusal) -> str:
    """Why an instance that would have done was not the one."""
    if isinstance(outcome, Refusal):
        return "is left to others: there are too many queries"
    if offer is outcome.offer:
        return "another replica was taken"
    if outcome.upgraded:
        if offer.accuracy > outcome.offer.accuracy:
            return "is not idle enough to be given away"
        return _GIVEN if offer.accuracy < outcome.offer.accuracy else "another as accurate is given"
    if cost > outcome.cost:
        return "costs more"
    return "finishes later" if predicted_s >= outcome.predicted_s else "is left to others: there are too many queries"


def _not_loaded(offer: PricedVariant, predicted_s: float, slack_s: float | None) -> str:
    if slack_s is not None and predicted_s > slack_s:
        return f"is not loaded, and loading takes {offer.load_s:.1f} s"
    return "is not loaded"


def _cost(offer: PricedVariant, query: Query) -> float:
    return offer.cost(size_class(query.batch), query.needs.mode is Mode.OFFLINE)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
