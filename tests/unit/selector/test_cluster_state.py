"""Tests of the cluster state: any history of statuses and sends, and variants that no worker can load."""

from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import ModelFailed, Overloaded
from schemas.query import Mode
from schemas.rows.catalog import Profile, Variant
from schemas.status import InstanceState, InstanceStatus, WorkerStatus
from selector.dispatch.explanation import explain
from selector.policy.choice import Choice, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.late_binding import bind
from selector.policy.replicas import FEW
from selector.policy.selection import choose
from tests.unit.selector.story import (
    BEST,
    FAST,
    GOOD,
    NO_UPGRADES,
    NOW,
    TASK,
    chosen,
    explained,
    instance,
    query,
    refused,
    registered,
    state_of,
    status,
    three,
)

OTHER = "text.onnx-fp32.cpu"
NAMES: tuple[str, ...] = (FAST, GOOD, BEST)
WORKERS = ("cpu-0", "cpu-1", "cpu-2")
LATENCIES_MS = (None, 20.0, 40.0, 70.0, 150.0, 500.0)
QUERIES = [
    query(latency_ms=latency_ms, target=target, batch=batch)
    for latency_ms in LATENCIES_MS
    for target in (None, GOOD)
    for batch in (1, 8)
]

Catalog = dict[str, tuple[Variant, Profile]]


class Speaks(NamedTuple):
    """Status of a worker: state, correction, slowdown and largest batch by variant."""

    worker: str
    epoch: int
    serving: dict[str, tuple[InstanceState, float, float, int]]
    leaving: bool

    def status(self) -> WorkerStatus:
        said = [
            instance(name, state=state, correction=correction, slowdown=slowdown, max_batch=max_batch)
            for name, (state, correction, slowdown, max_batch) in self.serving.items()
        ]
        return status(*said, worker=self.worker, epoch=self.epoch, leaving=self.leaving)


class Registers(NamedTuple):
    """Change of the catalog: latency in ms by variant."""

    ms: dict[str, float]

    def catalog(self) -> Catalog:
        accuracies: dict[str, float] = dict(zip(NAMES, (0.8, 0.9, 0.95), strict=True))
        return {name: registered(name, ms=ms, accuracy=accuracies[name]) for name, ms in self.ms.items()}


_serving = st.tuples(
    st.sampled_from([InstanceState.ACTIVE, InstanceState.OVERLOADED, InstanceState.LOADING, InstanceState.FAILED]),
    st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from([1.0, 3.0]),
    st.sampled_from([1, 4, 8]),
)
_events = st.lists(
    st.one_of(
        st.builds(
            Speaks,
            st.sampled_from(WORKERS),
            st.integers(1, 2),
            st.dictionaries(st.sampled_from(NAMES), _serving),
            st.booleans(),
        ),
        st.builds(Registers, st.dictionaries(st.sampled_from(NAMES), st.sampled_from([1.0, 16.0, 100.0]))),
    ),
    max_size=8,
)


def _register(state: ClusterState, catalog: Catalog) -> None:
    state.register((TASK,), [v for v, _ in catalog.values()], {p.variant: p for _, p in catalog.values()})


def _outcomes(state: ClusterState) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for asked in QUERIES:
        outcome = choose(asked, state, NOW, NO_UPGRADES)
        if not isinstance(outcome, Choice):
            found.append((type(outcome.error), str(outcome.error), outcome.error.retry_after_s))
        elif outcome.instance is None:  # the choice of an unloaded variant depends on the one that served last
            found.append(("not loaded",))
        else:  # of equally soon replicas the first in the order of arrival is chosen, so the worker may differ
            found.append((outcome.variant.name, outcome.predicted_s))
    return found


def _places(state: ClusterState) -> set[tuple[str, str]]:
    """Return the workers and variants that the queries get."""
    found = (choose(asked, state, NOW, NO_UPGRADES) for asked in QUERIES)
    return {(o.instance.worker.name, o.variant.name) for o in found if isinstance(o, Choice) and o.instance is not None}


def _good(correction: float) -> Speaks:
    return Speaks("cpu-0", 1, {GOOD: (InstanceState.ACTIVE, correction, 1.0, 8)}, leaving=False)


@given(_events)
@example([_good(1.0), _good(0.25)])  # the correction makes GOOD fast enough for a query
@example([_good(0.25), _good(4.0)])  # the correction makes GOOD too slow
@example([_good(1.0)._replace(worker="cpu-1"), _good(1.0)])  # two equal replicas
@settings(deadline=None)
def test_cluster_state_decides_as_a_fresh_one(events: list[Speaks | Registers]) -> None:
    running, catalog = ClusterState(), Registers(dict.fromkeys(NAMES, 100.0)).catalog()
    _register(running, catalog)
    said: dict[str, WorkerStatus] = {}
    for event in events:
        _outcomes(running)  # fills the caches
        if isinstance(event, Registers):
            catalog = event.catalog()
            _register(running, catalog)
            continue
        spoken, before = event.status(), said.get(event.worker)
        running.apply_status(spoken, NOW)
        if before is None or spoken.epoch >= before.epoch:
            said[event.worker] = spoken
            if spoken.leaving:
                del said[event.worker]
    fresh = ClusterState()
    _register(fresh, catalog)
    for name in WORKERS:  # workers repeat their statuses within a second of a registration
        if name in said:
            running.apply_status(said[name], NOW)
            fresh.apply_status(said[name], NOW)
    assert _outcomes(running) == _outcomes(fresh)
    assert _places(running) <= {(name, one.variant) for name, spoken in said.items() for one in spoken.instances}


def test_register_leaves_replicas_of_unchanged_tasks() -> None:
    row, measured = registered(FAST, ms=1.0)
    other, texts = replace(row, name=OTHER, task="texts"), replace(measured, variant=OTHER)
    state = state_of((row, measured), (other, texts), tasks=(TASK, "texts"))
    state.apply_status(status(instance(FAST, unread=2), instance(OTHER, unread=2)), NOW)
    before = state.tasks[TASK].serving[FAST]
    slower = replace(registered(FAST, ms=9.0)[1], variant=OTHER)
    state.register((TASK, "texts"), [row, other], {FAST: measured, OTHER: slower})
    assert state.tasks[TASK].serving[FAST] is before
    (running,) = state.tasks["texts"].serving[OTHER]
    assert (running.model.batch_s(1), running.waiting(NOW)) == (pytest.approx(0.009), 8.0)


def test_register_leaves_idle_replicas_idle() -> None:
    """They have waited for another instance of their worker, whose work has ended."""
    catalog: Catalog = {name: registered(name) for name in (FAST, GOOD)}
    state = state_of(*catalog.values())
    for second, queued in enumerate((0, 4, 0)):
        for number in range(FEW + 1):
            waiting, beside = (instance(name, partitions=(number,)) for name in (FAST, GOOD))
            beside = replace(beside, queued=queued, queued_inputs=queued)
            backlogs_s = (0.3, 0.3) if queued else ()
            said = status(waiting, beside, worker=f"cpu-{number}", backlogs_s=backlogs_s)
            state.apply_status(said, NOW + second)
    assert len(state.tasks[TASK].serving[FAST].group.idle) == FEW + 1
    _register(state, {**catalog, BEST: registered(BEST)})
    assert len(state.tasks[TASK].serving[FAST].group.idle) == FEW + 1


def test_variant_registered_again_begins_with_new_partitions() -> None:
    row, measured = registered(FAST, ms=1.0)
    state = state_of((row, measured))
    state.apply_status(status(instance(FAST)), NOW)
    choice = chosen(query(), state)
    state.sent(choice.instance, choice.partition, 1, NOW, NOW)
    state.acknowledged(choice.instance, choice.partition, 101, NOW)
    state.register((TASK,), [], {})
    state.register((TASK,), [row], {FAST: measured})
    state.apply_status(status(instance(FAST)), NOW)
    (running,) = state.tasks[TASK].serving[FAST]
    assert running.waiting(NOW) == 0.0


def failed(name: str) -> InstanceStatus:
    return replace(instance(name, state=InstanceState.FAILED, partitions=()), reason="no kernel")


def loading(name: str) -> InstanceStatus:
    return instance(name, state=InstanceState.LOADING, partitions=())


def test_choose_refuses_unloadable_variant_with_reason() -> None:
    state = three()
    chosen(query(target=BEST), state)
    state.apply_status(status(instance(FAST), instance(GOOD), failed(BEST)), NOW)
    for latency_ms in (None, 5_000.0):
        asked = query(target=BEST, latency_ms=latency_ms)
        refusal = refused(asked, state)
        assert isinstance(refusal.error, ModelFailed)
        assert str(refusal.error) == f"{BEST} cannot be loaded: no kernel"
        assert refusal.wanted is not None
        assert refusal.wanted.name == BEST
        considered = explained(explain(asked, state, NOW, NO_UPGRADES, refusal))["considered"]
        assert "cannot be loaded: no kernel" in str(considered)


def test_bind_refuses_unloadable_variant() -> None:
    state = three()
    state.apply_status(status(failed(BEST)), NOW)
    outcome = bind(query(target=BEST, mode=Mode.OFFLINE), state, NOW, NO_UPGRADES)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ModelFailed)


def test_choose_uses_other_variant_of_the_task() -> None:
    state = three()
    state.apply_status(status(failed(FAST), instance(GOOD)), NOW)
    assert chosen(query(), state).variant.name == GOOD
    state.apply_status(status(failed(FAST), failed(GOOD)), NOW)
    assert chosen(query(), state).variant.name == BEST, "waits for the one that may be loaded"


def test_unloadable_variant_recovers_on_another_worker() -> None:
    state, asked = three(), query(target=BEST)
    state.apply_status(status(failed(BEST)), NOW)
    state.apply_status(status(loading(BEST), worker="cpu-1"), NOW)
    chosen(asked, state)
    state.apply_status(status(failed(BEST), worker="cpu-1"), NOW)
    refused(asked, state)
    state.apply_status(status(instance(BEST), worker="cpu-2"), NOW)
    assert chosen(asked, state).instance is not None


def test_unloadable_variant_recovers_if_worker_is_gone() -> None:
    state = three()
    state.apply_status(status(failed(BEST)), NOW)
    state.apply_status(status(worker="cpu-1"), NOW + 3.0)
    state.expire(NOW + 3.5)
    chosen(query(target=BEST, sent=NOW + 3.5), state, now=NOW + 3.5)
    state.apply_status(replace(status(failed(BEST), worker="cpu-1")), NOW + 3.6)
    state.register(["digits"], [], {})
    assert not isinstance(refused(query(), state, now=NOW + 3.6).error, Overloaded)
