"""Tests of predictions for queries that overtake less urgent work."""

from math import inf

import pytest
from msgspec.structs import replace

from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import finish_s
from tests.unit.selector.story import (
    BEST,
    FAST,
    NOW,
    chosen,
    instance,
    query,
    refused,
    registered,
    state_of,
    status,
)

BATCH_S = 0.016
"""Seconds of a batch of one input of the slow variant, which is one slot's only work."""
WAITING = 20
SOON, LATE = 0.06, 0.9
"""Seconds to the deadline of an urgent query, and of the waiting work."""


def busy(waiting: tuple[int, ...], backlog_s: float = WAITING * BATCH_S, unread: int = 0) -> ClusterState:
    """Return the state of a worker with one slot, and with work of a slow variant by level of urgency."""
    state = state_of(registered(FAST, ms=1, accuracy=0.8), registered(BEST, ms=16, max_batch=1))
    slow = instance(BEST, queued=sum(waiting), unread=unread, max_batch=1)
    said = status(instance(FAST), replace(slow, waiting_inputs=waiting), slots=1, backlogs_s=(backlog_s,))
    state.apply_status(said, NOW)
    return state


def of(state: ClusterState, name: str) -> Instance:
    return state.workers["cpu-0"].instances[name]


def wait_s(state: ClusterState, left_s: float, now: float = NOW) -> float:
    """Return the predicted wait of a fast query that is due in `left_s`."""
    fast = of(state, FAST)
    idle_s = fast.worker.hop_s + fast.model.promised_s(1)
    return finish_s(fast, 1, now, due_s=now + left_s) - idle_s


LATE_WORK = (0, 0, 0, 0, 0, 0, WAITING)


def test_urgent_query_is_not_refused_behind_less_urgent_work() -> None:
    assert chosen(query(latency_ms=1e3 * SOON, target=FAST), busy(LATE_WORK)).variant.name == FAST
    refused(query(latency_ms=1e3 * SOON, target=FAST), busy((0, 0, WAITING)))


@pytest.mark.parametrize("left_s", [LATE, 3.0, inf])
def test_query_waits_for_work_as_urgent(left_s: float) -> None:
    assert wait_s(busy(LATE_WORK), left_s) == pytest.approx(WAITING * BATCH_S)


def test_query_waits_for_more_urgent_share_of_work() -> None:
    mixed = busy((0, 5, 0, 0, 0, 0, 15))
    assert [wait_s(mixed, left_s) for left_s in (SOON, LATE)] == pytest.approx([5 * BATCH_S, WAITING * BATCH_S])


def test_query_waits_for_running_batch_of_less_urgent_work() -> None:
    """Nothing is preempted: 10 ms are left of a batch at first, and all of the next one when it ends."""
    running = busy(LATE_WORK, WAITING * BATCH_S + 0.010)
    waits_s = [wait_s(running, SOON, NOW + passed_s) for passed_s in (0.0, 0.008, 0.012, 0.024)]
    assert waits_s == pytest.approx([0.010, 0.002, BATCH_S - 0.002, BATCH_S - 0.014], abs=1e-6)


def test_unread_work_is_overtaken_as_work_that_waits_at_the_worker() -> None:
    """Queries of the instance itself do not overtake it, as a worker reads in the order of the log."""
    unknown, alike = busy((), 0.0, unread=5), busy((0, 0, 0, 0, 0, 0, 4), 4 * BATCH_S, unread=5)
    assert wait_s(unknown, SOON) == pytest.approx(20 * BATCH_S)
    assert wait_s(alike, SOON) < 2 * BATCH_S < 23 * BATCH_S < wait_s(alike, LATE)
    assert finish_s(of(alike, BEST), 1, NOW, due_s=NOW + SOON) > 19 * BATCH_S


def test_sent_query_is_overtaken_unless_it_begins_at_once() -> None:
    state = busy((), 0.0)
    slow = of(state, BEST)
    state.sent(slow, slow.partitions[0], 1, NOW, NOW + LATE)
    assert wait_s(state, SOON) == pytest.approx(BATCH_S, rel=1e-3), "it has a free slot"
    for _ in range(WAITING):
        state.sent(slow, slow.partitions[0], 1, NOW, NOW + LATE)
    assert wait_s(state, SOON) == pytest.approx(BATCH_S, rel=1e-3)
    assert wait_s(state, LATE) == pytest.approx((WAITING + 1) * BATCH_S, rel=1e-3)


def test_urgent_query_overtakes_work_of_its_own_instance() -> None:
    slow = of(busy(LATE_WORK, WAITING * BATCH_S + 0.005), BEST)
    alone_s = slow.worker.hop_s + BATCH_S
    assert finish_s(slow, 1, NOW, due_s=NOW + SOON) < alone_s + BATCH_S
    assert finish_s(slow, 1, NOW, due_s=NOW + LATE) == pytest.approx(alone_s + WAITING * BATCH_S)


def test_large_and_offline_queries_overtake_nothing() -> None:
    state = busy(LATE_WORK)
    fast = of(state, FAST)
    large = fast.model.piece_inputs + fast.model.max_batch + 1
    for inputs, offline in ((large, False), (1, True)):
        urgent_s = finish_s(fast, inputs, NOW, offline, due_s=NOW + SOON)
        assert urgent_s == finish_s(fast, inputs, NOW, offline) > WAITING * BATCH_S


def test_next_status_replaces_less_urgent_work() -> None:
    state = busy(LATE_WORK)
    idle = status(instance(FAST), instance(BEST, max_batch=1), slots=1, backlogs_s=(0.0,))
    state.apply_status(idle, NOW + 0.1)
    assert not any(state.workers["cpu-0"].later_s)
    assert not any(of(state, BEST).later_inputs)
