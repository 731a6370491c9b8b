"""Tests of the cluster state: any history of statuses and sends, and variants that no worker can load."""

from typing import NamedTuple, TypeAlias

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.scale.statuses import every_instance
from schemas.errors import ModelFailed
from schemas.query import Mode
from schemas.rows.catalog import Profile, Variant
from schemas.status import InstanceState, InstanceStatus, WorkerStatus
from selector.dispatch.explanation import explain
from selector.policy.choice import Choice, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.late_binding import bind
from selector.policy.prediction import finish_s
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

NAMES: tuple[str, ...] = (FAST, GOOD, BEST)
WORKERS = ("cpu-0", "cpu-1", "cpu-2")
QUERIES = [
    query(latency_ms=latency_ms, target=target, batch=batch)
    for latency_ms in (None, 20.0, 40.0, 70.0, 150.0, 500.0)
    for target in (None, GOOD)
    for batch in (1, 8)
]
Catalog = dict[str, tuple[Variant, Profile]]


class Serves(NamedTuple):
    """Status of an instance in the heartbeat of its worker."""

    state: InstanceState = InstanceState.ACTIVE
    queued: int = 0
    unread: int = 0
    slowdown: float = 1.0
    correction: float = 1.0
    max_batch: int = 8


class Says(NamedTuple):
    """Status of a worker."""

    worker: str
    instances: dict[str, Serves]
    backlogs_s: tuple[float, float] = (0.0, 0.0)
    epoch: int = 1
    leaving: bool = False

    def status(self, now: float = NOW) -> WorkerStatus:
        place = WORKERS.index(self.worker)
        said = [
            instance(name, partitions=(place,), parallel=2, **one._asdict()) for name, one in self.instances.items()
        ]
        backlogs_s = self.backlogs_s
        return status(*said, worker=self.worker, epoch=self.epoch, leaving=self.leaving, backlogs_s=backlogs_s, at=now)


class Sends(NamedTuple):
    """Query sent to an instance, and acknowledged if `gap` is given: that many queries of others came before it.

    Without a worker it is sent to a partition, without the choice of an instance.
    """

    worker: str | None
    variant: str
    inputs: int = 1
    gap: int | None = None
    offline: bool = False


class Registers(NamedTuple):
    """Change of the catalog: latency in ms by variant."""

    ms: dict[str, float]

    def catalog(self) -> Catalog:
        accuracies: dict[str, float] = dict(zip(NAMES, (0.8, 0.9, 0.95), strict=True))
        return {name: registered(name, ms=ms, accuracy=accuracies[name]) for name, ms in self.ms.items()}


Event: TypeAlias = Says | Sends | Registers
_backlogs = st.sampled_from([(0.0, 0.0), (0.0, 0.0), (0.0, 0.2), (0.3, 0.3)])
_corrected = st.builds(
    Serves,
    st.sampled_from([InstanceState.ACTIVE, InstanceState.OVERLOADED, InstanceState.LOADING, InstanceState.FAILED]),
    slowdown=st.sampled_from([1.0, 3.0]),
    correction=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    max_batch=st.sampled_from([1, 4, 8]),
)
_mostly_resting = st.sampled_from(
    [*[Serves()] * 4, Serves(queued=1), Serves(queued=9), Serves(unread=2), Serves(slowdown=3.0)]
)
_any_catalog = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([1.0, 16.0, 100.0]))
_whole_catalog = st.fixed_dictionaries({name: st.sampled_from([1.0, 5.0, 9.0]) for name in NAMES})


def _happen(state: ClusterState, event: Event, now: float) -> None:
    match event:
        case Says():
            state.apply_status(event.status(now), now)
        case Registers():
            _register(state, event.catalog())
        case Sends(None, variant):
            row = next(one for one in state.tasks[TASK].variants if one.name == variant)
            state.sent(None, state.partitions(row)[0], 1, now, now)
        case Sends(worker, variant, inputs, gap, offline):
            running = state.workers[worker].instances.get(variant) if worker in state.workers else None
            if running is not None:
                _send(state, running, inputs, gap, now, offline=offline)


def _send(state: ClusterState, running: Instance, inputs: int, gap: int | None, now: float, *, offline: bool) -> None:
    (partition,) = running.offline_partitions if offline else running.partitions
    if offline:
        state.sent_offline(running, partition, inputs, now)
    else:
        state.sent(running, partition, inputs, now, now + 0.1)
    if gap is not None:
        state.acknowledged(running, partition, max(partition.end, 0) + gap, now)


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


def _good(correction: float, worker: str = "cpu-0") -> Says:
    return Says(worker, {GOOD: Serves(correction=correction)})


@given(
    st.lists(
        st.builds(
            Says,
            st.sampled_from(WORKERS),
            st.dictionaries(st.sampled_from(NAMES), _corrected),
            epoch=st.integers(1, 2),
            leaving=st.booleans(),
        )
        | st.builds(Registers, _any_catalog),
        max_size=8,
    )
)
@example([_good(1.0), _good(0.25)])  # the correction makes GOOD fast enough for a query
@example([_good(0.25), _good(4.0)])  # the correction makes GOOD too slow
@example([_good(1.0, "cpu-1"), _good(1.0)])  # two equal replicas
def test_cluster_state_decides_as_a_fresh_one(events: list[Says | Registers]) -> None:
    running, catalog = ClusterState(), Registers(dict.fromkeys(NAMES, 100.0)).catalog()
    _register(running, catalog)
    said: dict[str, Says] = {}
    for event in events:
        _outcomes(running)  # fills the caches
        _happen(running, event, NOW)
        if isinstance(event, Registers):
            catalog = event.catalog()
        elif event.worker not in said or event.epoch >= said[event.worker].epoch:
            said[event.worker] = event
            if event.leaving:
                del said[event.worker]
    fresh = ClusterState()
    _register(fresh, catalog)
    for name in WORKERS:  # workers repeat their statuses within a second of a registration
        if name in said:
            running.apply_status(said[name].status(), NOW)
            fresh.apply_status(said[name].status(), NOW)
    assert _outcomes(running) == _outcomes(fresh)
    assert _places(running) <= {(name, variant) for name, event in said.items() for variant in event.instances}


def _seen(state: ClusterState, now: float) -> dict[tuple[str, str], tuple[object, ...]]:
    """Return all that decisions use of each instance, by worker and variant."""
    return {
        (worker.name, name): (
            *(finish_s(running, batch, now, offline, due_s=now + 0.2) for batch in (1, 8) for offline in (False, True)),
            running.waiting(now),
            running.occupied_slots(now),
            running.is_blocked(now),
            running.lacks_slot,
            running.work_s(now),
            worker.online_at,
        )
        for worker in state.workers.values()
        for name, running in worker.instances.items()
    }


_RESTING = Says("cpu-0", {FAST: Serves(), GOOD: Serves()})
_FULL = Says("cpu-0", {FAST: Serves(), GOOD: Serves(queued=9)}, (0.3, 0.3))
_NEARLY_FREE = _FULL._replace(backlogs_s=(0.0, 0.0))
_SLOWER = Registers({FAST: 5.0, GOOD: 4.0, BEST: 9.0})


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.001, 0.1, 0.5, 3.0]),
            st.one_of(
                st.builds(
                    Says,
                    st.sampled_from(WORKERS[:2]),
                    st.fixed_dictionaries(
                        {FAST: _mostly_resting}, optional={GOOD: _mostly_resting, BEST: _mostly_resting}
                    ),
                    _backlogs,
                ),
                st.builds(
                    Sends,
                    st.sampled_from([*WORKERS[:2], None]),
                    st.sampled_from(NAMES),
                    st.sampled_from([1, 8, 100]),
                    st.sampled_from([None, 0, 2]),
                    st.booleans(),
                ),
                st.builds(Registers, _whole_catalog),
            ),
        ),
        min_size=10,
        max_size=40,
    )
)
@example([(0.1, _RESTING), (0.1, Sends(None, FAST)), (0.1, _RESTING)])
@example([(0.1, _RESTING), (0.1, _FULL), (0.1, Sends("cpu-0", FAST, 8, 0)), (0.1, _FULL)])
@example([(0.1, _RESTING), (0.1, _NEARLY_FREE), (0.1, Sends("cpu-0", FAST, 8, 0))])
@example([(0.1, _RESTING), (0.1, Sends("cpu-0", FAST, 1, 2, offline=True)), (0.1, _RESTING), (3.0, _RESTING)])
@example([(0.1, _RESTING), (0.1, _SLOWER), (0.1, _RESTING), (0.1, _FULL)])
def test_view_is_that_of_statuses_taken_whole(events: list[tuple[float, Event]]) -> None:
    """Of most statuses only the instances that have changed are read."""
    ours, whole, now = ClusterState(), ClusterState(), NOW
    for state in (ours, whole):
        _register(state, Registers(dict(zip(NAMES, (1.0, 4.0, 9.0), strict=True))).catalog())
    for pause_s, event in events:
        now += pause_s
        _happen(ours, event, now)
        with every_instance():
            _happen(whole, event, now)
        for seen_at in (now, now + 0.002):
            assert _seen(ours, seen_at) == _seen(whole, seen_at)


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


def test_unloadable_variant_is_refused_with_its_reason() -> None:
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
    outcome = bind(query(target=BEST, mode=Mode.OFFLINE), state, NOW, NO_UPGRADES)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ModelFailed)


def test_unloadable_variant_recovers_on_another_worker_or_without_it() -> None:
    state, asked = three(), query(target=BEST)
    state.apply_status(status(failed(BEST)), NOW)
    state.apply_status(status(loading(BEST), worker="cpu-1"), NOW)
    chosen(asked, state)
    state.apply_status(status(failed(BEST), worker="cpu-1"), NOW)
    refused(asked, state)
    state.apply_status(status(instance(BEST), worker="cpu-2"), NOW)
    assert chosen(asked, state).instance is not None
    state.apply_status(status(worker="cpu-3"), NOW + 3.0)
    state.expire(NOW + 3.5)
    assert chosen(query(target=BEST, sent=NOW + 3.5), state, now=NOW + 3.5).instance is None


def test_choose_uses_variant_that_can_be_loaded() -> None:
    state = three()
    state.apply_status(status(failed(FAST), instance(GOOD)), NOW)
    assert chosen(query(), state).variant.name == GOOD
    state.apply_status(status(failed(FAST), failed(GOOD)), NOW)
    assert chosen(query(), state).variant.name == BEST, "waits for the one that may be loaded"
