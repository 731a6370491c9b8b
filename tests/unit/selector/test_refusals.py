"""Tests of the retry delay of refusals: the time until the backlog in the way is computed."""

import msgspec
import pytest

from schemas.errors import Overloaded
from schemas.query import Query
from selector.choice import PolicyConfig, Refusal
from selector.cluster_state import ClusterState
from selector.forward import refused
from selector.policy import choose
from selector.prediction import drain_s
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


def test_retry_after_header_is_rounded_up() -> None:
    told = dict(refused(query(), Overloaded(retry_after_s=0.0101), {}, NOW, None))
    assert told["infaas-retry-after-ms"] == b"11"
    assert "infaas-retry-after-ms" not in dict(refused(query(), Overloaded(), {}, NOW, None))
