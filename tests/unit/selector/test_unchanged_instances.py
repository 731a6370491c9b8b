"""Statuses of which only some instances have changed: the view is that of statuses taken whole."""

from typing import Final, NamedTuple, TypeAlias

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.scale.statuses import every_instance
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import finish_s
from tests.unit.selector.story import BEST, FAST, GOOD, NOW, TASK, instance, registered, state_of, status

NAMES: Final = (FAST, GOOD, BEST)
WORKERS: Final = ("w0", "w1")


class Says(NamedTuple):
    """Status of a worker: queued queries, unread ones and slowdown by variant."""

    worker: str
    instances: dict[str, tuple[int, int, float]]
    backlogs_s: tuple[float, float]


class Sends(NamedTuple):
    """Query sent to an instance, and acknowledged if `gap` is given: that many queries of others came before it."""

    worker: str
    variant: str
    inputs: int
    gap: int | None
    offline: bool


class SendsToNone(NamedTuple):
    """Query sent to a partition without the choice of an instance."""

    variant: str


class Registers(NamedTuple):
    """Change of the profile of a variant."""

    variant: str
    ms: float


Event: TypeAlias = Says | Sends | SendsToNone | Registers

REST: Final = (0, 0, 1.0)
_load = st.sampled_from([REST, REST, REST, REST, (1, 0, 1.0), (9, 0, 1.0), (0, 2, 1.0), (0, 0, 3.0)])
_events: st.SearchStrategy[list[tuple[float, Event]]] = st.lists(
    st.tuples(
        st.sampled_from([0.001, 0.1, 0.5, 3.0]),
        st.one_of(
            st.builds(
                Says,
                st.sampled_from(WORKERS),
                st.fixed_dictionaries({FAST: _load}, optional={GOOD: _load, BEST: _load}),
                st.sampled_from([(0.0, 0.0), (0.0, 0.0), (0.0, 0.2), (0.3, 0.3)]),
            ),
            st.builds(
                Sends,
                st.sampled_from(WORKERS),
                st.sampled_from(NAMES),
                st.sampled_from([1, 8, 100]),
                st.sampled_from([None, 0, 2]),
                st.booleans(),
            ),
            st.builds(SendsToNone, st.sampled_from(NAMES)),
            st.builds(Registers, st.sampled_from(NAMES), st.sampled_from([1.0, 5.0])),
        ),
    ),
    min_size=10,
    max_size=40,
)


def _fresh() -> ClusterState:
    return state_of(*(registered(name, ms=ms) for name, ms in zip(NAMES, (1.0, 4.0, 9.0), strict=True)))


def _happen(state: ClusterState, event: Event, now: float) -> None:
    match event:
        case Says(worker, instances, backlogs_s):
            place = WORKERS.index(worker)
            said = [
                instance(name, partitions=(place,), queued=queued, unread=unread, slowdown=slowdown, parallel=2)
                for name, (queued, unread, slowdown) in instances.items()
            ]
            state.apply_status(status(*said, worker=worker, backlogs_s=backlogs_s, at=now), now)
        case Sends(worker, variant, inputs, gap, offline):
            running = state.workers[worker].instances.get(variant) if worker in state.workers else None
            if running is not None:
                _send(state, running, inputs, gap, now, offline=offline)
        case SendsToNone(variant):
            row = next(one for one in state.tasks[TASK].variants if one.name == variant)
            state.sent(None, state.partitions(row)[0], 1, now, now)
        case Registers(variant, ms):
            rows = [registered(name, ms=ms if name == variant else 2.0) for name in NAMES]
            state.register([TASK], [row for row, _ in rows], {profile.variant: profile for _, profile in rows})


def _send(state: ClusterState, running: Instance, inputs: int, gap: int | None, now: float, *, offline: bool) -> None:
    (partition,) = running.offline_partitions if offline else running.partitions
    if offline:
        state.sent_offline(running, partition, inputs, now)
    else:
        state.sent(running, partition, inputs, now, now + 0.1)
    if gap is not None:
        state.acknowledged(running, partition, max(partition.end, 0) + gap, now)


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


_RESTING: Final = Says("w0", {FAST: REST, GOOD: REST}, (0.0, 0.0))
_FULL: Final = Says("w0", {FAST: REST, GOOD: (9, 0, 1.0)}, (0.3, 0.3))
_NEARLY_FREE: Final = _FULL._replace(backlogs_s=(0.0, 0.0))
LATER_S: Final = 0.002


@given(_events)
@example([(0.1, _RESTING), (0.1, SendsToNone(FAST)), (0.1, _RESTING)])
@example([(0.1, _RESTING), (0.1, _FULL), (0.1, Sends("w0", FAST, 8, 0, offline=False)), (0.1, _FULL)])
@example([(0.1, _RESTING), (0.1, _NEARLY_FREE), (0.1, Sends("w0", FAST, 8, 0, offline=False))])
@example([(0.1, _RESTING), (0.1, Sends("w0", FAST, 1, 2, offline=True)), (0.1, _RESTING), (3.0, _RESTING)])
@example([(0.1, _RESTING), (0.1, Registers(FAST, 5.0)), (0.1, _RESTING), (0.1, _FULL)])
@settings(deadline=None)
def test_view_is_that_of_statuses_taken_whole(events: list[tuple[float, Event]]) -> None:
    ours, whole, now = _fresh(), _fresh(), NOW
    for pause_s, event in events:
        now += pause_s
        _happen(ours, event, now)
        with every_instance():
            _happen(whole, event, now)
        for seen_at in (now, now + LATER_S):
            assert _seen(ours, seen_at) == _seen(whole, seen_at)
