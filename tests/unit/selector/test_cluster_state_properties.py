"""Tests of `ClusterState`: a state that has run for long decides as one built from the same facts."""

from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.rows.catalog import Profile, Variant
from schemas.status import InstanceState, WorkerStatus
from selector.choice import Choice, PolicyConfig
from selector.cluster_state import ClusterState
from selector.policy import choose
from tests.unit.selector.story import BEST, FAST, GOOD, NOW, TASK, instance, query, registered, status

CONFIG = PolicyConfig(upgrades=False)
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
        outcome = choose(asked, state, NOW, CONFIG)
        if not isinstance(outcome, Choice):
            found.append((type(outcome.error), str(outcome.error), outcome.error.retry_after_s))
        elif outcome.instance is None:  # the choice of an unloaded variant depends on the one that served last
            found.append(("not loaded",))
        else:
            found.append((outcome.variant.name, outcome.instance.worker.name, outcome.predicted_s))
    return found


def _good(correction: float) -> Speaks:
    return Speaks("cpu-0", 1, {GOOD: (InstanceState.ACTIVE, correction, 1.0, 8)}, leaving=False)


@given(_events)
@example([_good(1.0), _good(0.25)])  # the correction makes GOOD fast enough for a query
@example([_good(0.25), _good(4.0)])  # the correction makes GOOD too slow
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
