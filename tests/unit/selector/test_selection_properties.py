"""Tests of properties of `choose` over arbitrary states and queries, against a plain restatement of its rules."""

import math
from typing import NamedTuple

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.errors import Overloaded, Unsatisfiable
from schemas.query import Mode, Query
from schemas.status import SERVING, WorkerStatus
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import cold_start_finish_s, finish_s, idle_finish_s
from selector.policy.selection import choose
from selector.policy.variants import PricedVariant, size_class, smallest_of
from tests.unit.selector.story import NOW, TASK, query, state_of, status
from tests.unit.selector.strategies import QUERY_PARTS, instances, statuses, variants

NAMES = [f"a{n}.onnx-{precision}.{hw}" for n in range(4) for precision, hw in (("fp32", "cpu"), ("int8", "cpu"))]

_parts = QUERY_PARTS | {"target": st.none() | st.sampled_from(["a0", "a1", NAMES[0], NAMES[3]])}
_queries = st.builds(query, **_parts)
_modest_queries = st.builds(
    query,
    **_parts
    | {
        "batch": st.sampled_from([1, 2, 7, 33]),
        "latency_ms": st.floats(100, 10_000),
        "min_accuracy": st.sampled_from([None, None, 0.7]),
        "max_cost": st.sampled_from([None, None, None, 1e-3]),
        "target": st.sampled_from([None, None, None, "a0"]),
    },
)
"""Queries with a deadline that most states can answer."""
_configs = st.builds(PolicyConfig, upgrades=st.booleans())


class Scene(NamedTuple):
    """A state, and the last status of each worker with its age in seconds."""

    state: ClusterState
    statuses: dict[str, tuple[WorkerStatus, float]]


@st.composite
def _scenes(draw: st.DrawFn) -> Scene:
    state = state_of(*draw(variants(NAMES)))
    last: dict[str, tuple[WorkerStatus, float]] = {}
    for said, age_s in draw(statuses(NAMES)):
        state.apply_status(said, NOW - age_s)
        last[said.worker] = said, age_s
    if draw(st.booleans()):
        state.expire(NOW)
    return Scene(state, last)


@st.composite
def _idle_states(draw: st.DrawFn) -> ClusterState:
    """Draw states with a worker that can load variants; in most of them nothing is loaded."""
    made = state_of(*draw(variants(NAMES).filter(bool)))
    loaded = draw(instances(NAMES)) if draw(st.integers(0, 3)) == 0 else []
    made.apply_status(status(*loaded), NOW)
    return made


def alive(where: ClusterState) -> list[Instance]:
    return [
        running for worker in where.workers.values() if worker.expires_at > NOW for running in worker.instances.values()
    ]


def meets(variant: PricedVariant, asked: Query) -> bool:
    needs = asked.needs
    cost = variant.cost(size_class(asked.batch), needs.mode is Mode.OFFLINE)
    return (
        (needs.target is None or needs.target in (variant.name, variant.architecture))
        and (needs.min_accuracy is None or variant.accuracy >= needs.min_accuracy)
        and (needs.max_cost is None or cost <= needs.max_cost)
    )


def rank(variant: PricedVariant, asked: Query) -> tuple[float, float, str]:
    return variant.cost(size_class(asked.batch), asked.needs.mode is Mode.OFFLINE), -variant.accuracy, variant.name


def fitting(where: ClusterState, asked: Query) -> list[Instance]:
    """Return the instances in time, without dearer ones on blocked workers with a cheaper one as fast when idle."""

    def is_spared(running: Instance) -> bool:
        return running.is_blocked(NOW) and any(
            meets(other.variant, asked)
            and rank(other.variant, asked) < rank(running.variant, asked)
            and idle_finish_s(other, asked.batch) <= idle_finish_s(running, asked.batch)
            for other in running.worker.instances.values()
        )

    fit = [r for r in alive(where) if meets(r.variant, asked) and finish(r, asked) <= slack_s(asked)]
    return [running for running in fit if not is_spared(running)]


def slack_s(asked: Query) -> float:
    if asked.deadline_ms is not None:
        return asked.deadline_ms / 1000 - NOW
    return 1.0 if asked.needs.mode is Mode.ONLINE else math.inf


def finish(running: Instance, asked: Query) -> float:
    return finish_s(running, asked.batch, NOW, asked.needs.mode is Mode.OFFLINE)


def is_prompt(running: Instance, asked: Query) -> bool:
    """Return true if the query waits for at most half as long as it could."""
    finish_s, alone_s = finish(running, asked), idle_finish_s(running, asked.batch)
    return finish_s <= slack_s(asked) / 2 or finish_s - alone_s <= (slack_s(asked) - alone_s) / 2


def check_instance(scene: Scene, choice: Choice) -> None:
    """Check against the statuses themselves that the chosen instance serves."""
    assert choice.instance is not None
    said, age_s = scene.statuses[choice.instance.worker.name]
    (stated,) = (one for one in said.instances if one.variant == choice.variant.name)
    assert (age_s < 1.0, said.leaving, stated.state in SERVING) == (True, False, True)
    assert choice.partition.number in {owned.partition for owned in stated.partitions}
    assert choice.partition in choice.instance.partitions
    assert choice.instance.variant is choice.variant


def check_refusal(where: ClusterState, asked: Query, refusal: Refusal) -> None:
    """Check that unsatisfiable needs are so at any load, and that others could be met."""
    suitable = [variant for variant in where.tasks[TASK].variants if meets(variant, asked)]
    if isinstance(refusal.error, Unsatisfiable):
        hop_s = max((worker.hop_s for worker in where.workers.values()), default=0.0)
        budget_s = math.inf if asked.deadline_ms is None else (asked.deadline_ms - asked.sent_ms) / 1e3
        assert all(variant.model.query_s(asked.batch) + hop_s > budget_s for variant in suitable)
    elif isinstance(refusal.error, Overloaded):
        assert suitable


@given(_scenes(), _queries, _configs)
@settings(max_examples=4 * settings().max_examples)
def test_choose_follows_its_rules(scene: Scene, asked: Query, config: PolicyConfig) -> None:
    """The rules once more, without classes, ranks and frontiers."""
    where = scene.state
    outcome, fit = choose(asked, where, NOW, config), fitting(where, asked)
    if isinstance(outcome, Refusal):
        assert not fit
        check_refusal(where, asked, outcome)
        return
    assert (outcome.cost_header, outcome.predicted_s > 0) == (repr(outcome.cost).encode(), True)
    needs = asked.needs
    assert needs.min_accuracy is None or outcome.variant.accuracy >= needs.min_accuracy
    assert needs.max_cost is None or outcome.cost <= needs.max_cost
    assert needs.target is None or needs.target in (outcome.variant.name, outcome.variant.architecture)
    if outcome.instance is not None:
        check_instance(scene, outcome)
    if not fit:
        assert outcome.predicted_s <= slack_s(asked) or asked.deadline_ms is None or needs.allow_late
        return
    assert outcome.predicted_s <= slack_s(asked)
    cheapest = min(fit, key=lambda r: rank(r.variant, asked)).variant
    assert outcome.cost == rank(cheapest, asked)[0]
    soonest = {r.variant: r for r in sorted(fit, key=lambda r: -finish(r, asked))}
    prompt = [variant for variant, running in soonest.items() if is_prompt(running, asked)]
    expected = min(prompt or [cheapest], key=lambda variant: rank(variant, asked))
    assert outcome.upgraded == (outcome.variant.accuracy > cheapest.accuracy)
    if outcome.variant is expected:
        assert outcome.predicted_s == finish(soonest[expected], asked)
    else:
        assert config.upgrades
        assert outcome.variant.accuracy > expected.accuracy


@given(_scenes(), _queries, st.floats(1, 10), _configs)
def test_choose_looser_deadline_causes_no_refusal(
    scene: Scene, asked: Query, factor: float, config: PolicyConfig
) -> None:
    if asked.deadline_ms is None or isinstance(choose(asked, scene.state, NOW, config), Refusal):
        return
    sent_ms = asked.sent_ms
    needs = msgspec.structs.replace(asked.needs, latency_ms=None)
    looser = msgspec.structs.replace(asked, deadline_ms=sent_ms + (asked.deadline_ms - sent_ms) * factor, needs=needs)
    outcome = choose(looser, scene.state, NOW, config)
    assert isinstance(outcome, Choice), outcome.error


@given(_idle_states(), _modest_queries)
def test_cold_start_is_cheapest_that_is_ready_in_time(where: ClusterState, asked: Query) -> None:
    """Hypothesis fails the test if too few examples are cold starts."""
    outcome = choose(asked, where, NOW, PolicyConfig(upgrades=False))
    assume(isinstance(outcome, Choice) and outcome.instance is None)
    assert isinstance(outcome, Choice)
    size, offline = size_class(asked.batch), asked.needs.mode is Mode.OFFLINE
    task = where.tasks[TASK]
    fit = [
        variant
        for variant in task.variants
        if meets(variant, asked)
        and variant.name not in task.serving
        and task.is_loadable(variant)
        and cold_start_finish_s(variant, asked.batch, where) <= slack_s(asked)
    ]
    if fit:
        assert outcome.cost == min(variant.cost(size, offline) for variant in fit)
    else:
        assert asked.needs.allow_late


@given(_scenes(), st.lists(_queries, min_size=1, max_size=8), _configs)
def test_choose_from_cache_equals_fresh_decision(scene: Scene, many: list[Query], config: PolicyConfig) -> None:
    where = scene.state
    first = [choose(asked, where, NOW, config) for asked in many]
    again = [choose(asked, where, NOW, config) for asked in reversed(many)]
    fresh: list[Choice | Refusal] = []
    for asked in many:
        where.tasks[TASK].invalidate()
        fresh.append(choose(asked, where, NOW, config))
    assert [told(outcome) for outcome in first] == [told(outcome) for outcome in fresh]
    assert [told(outcome) for outcome in reversed(again)] == [told(outcome) for outcome in fresh]


def told(outcome: Choice | Refusal) -> object:
    if isinstance(outcome, Refusal):
        return type(outcome.error), outcome.wanted
    return outcome.variant, outcome.instance, outcome.partition, outcome.predicted_s, outcome.cost, outcome.upgraded


def test_size_class_is_at_most_an_eighth_above() -> None:
    for batch in range(1, 65_537):
        size = size_class(batch)
        assert batch <= size <= batch * 1.125
        assert smallest_of(size) <= batch
    sizes = {size_class(batch) for batch in range(1, 65_537)}
    assert len(sizes) == 120
    assert all(size_class(size) == size_class(smallest_of(size)) == size for size in sizes)
