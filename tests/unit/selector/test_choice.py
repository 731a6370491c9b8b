"""Tests of the retry delay of refusals: the time until the backlog in the way is computed."""

import msgspec
import pytest

from schemas.errors import Overloaded, RefusalReason
from schemas.query import Query
from selector.admission.received_query import error_result
from selector.dispatch.explanation import explain
from selector.policy.choice import PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.prediction import drain_s
from selector.policy.selection import choose
from tests.unit.selector.story import BEST, FAST, GOOD, NOW, instance, query, registered, state_of, status, three


def retry_after_s(asked: Query, where: ClusterState, now: float = NOW) -> float:
    outcome = choose(asked, where, now, PolicyConfig())
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, Overloaded)
    assert outcome.error.retry_after_s is not None
    return outcome.error.retry_after_s


def full(queued: int) -> ClusterState:
    """Return a state with `queued` queries at each instance, in which FAST last computed full batches."""
    where = three()
    busy = msgspec.structs.replace(instance(FAST, queued=queued), batch_size=8.0, batch_s=2.75e-3)
    where.apply_status(status(busy, instance(GOOD, queued=queued)), NOW)
    return where


def empty(memory: int) -> ClusterState:
    """Return a state with one variant and one worker, whose memory does not suffice for it."""
    where = state_of(registered(GOOD, memory=2 * memory))
    where.apply_status(status(memory=memory), NOW)
    return where


def test_retry_after_follows_the_backlog() -> None:
    asked = query(latency_ms=20)
    assert retry_after_s(asked, full(80)) == pytest.approx(80 * 2.75e-3 / 8)
    assert retry_after_s(asked, full(400)) == pytest.approx(400 * 2.75e-3 / 8)
    later = query(latency_ms=20, sent=NOW + 0.05)
    assert retry_after_s(later, full(400), NOW + 0.05) == pytest.approx(400 * 2.75e-3 / 8 - 0.05)


def test_drain_time_covers_the_query_itself() -> None:
    fast = full(80).workers["cpu-0"].instances[FAST]
    assert drain_s([fast], 4, NOW + 10) == pytest.approx(1.75e-3)


def test_retry_after_covers_the_load_time() -> None:
    where = state_of(registered(BEST, ms=4, load_s=3.0))
    where.apply_status(status(), NOW)
    assert retry_after_s(query(latency_ms=100), where) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("asked", "where", "reason"),
    [
        (query(latency_ms=20), full(400), RefusalReason.INSTANCES_BUSY),
        (query(latency_ms=60, sent=NOW - 1), three(), RefusalReason.DEADLINE_PASSED),
        (query(min_accuracy=0.99), three(), RefusalReason.NEEDS_UNSATISFIABLE),
        (query(min_accuracy=0.94, latency_ms=300), three(), RefusalReason.NOT_LOADED),
        (query(latency_ms=5000), empty(memory=1000), RefusalReason.NO_WORKER),
        (query(task="other"), three(), None),
    ],
)
def test_refusal_reason_is_in_header_body_and_explanation(
    asked: Query, where: ClusterState, reason: RefusalReason | None
) -> None:
    config = PolicyConfig()
    outcome = choose(asked, where, NOW, config)
    assert isinstance(outcome, Refusal)
    assert outcome.error.reason is reason
    answer = error_result("results", "1", outcome.error, {})
    assert dict(answer.headers).get("infaas-reason") == (reason and reason.encode())
    assert msgspec.json.decode(answer.value or b"").get("reason") == reason
    assert msgspec.json.decode(explain(asked, where, NOW, config, outcome)).get("refusal") == reason


def test_retry_after_header_is_rounded_up() -> None:
    error = Overloaded(reason=RefusalReason.INSTANCES_BUSY, retry_after_s=0.0101)
    headers = dict(error_result("results", "1", error, {}).headers)
    assert (headers["infaas-retry-after-ms"], headers["infaas-reason"]) == (b"11", b"instances_busy")
    assert "infaas-retry-after-ms" not in dict(error_result("results", "1", Overloaded(), {}).headers)
