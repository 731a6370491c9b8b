"""Tests of large queries: their predictions, and their effect on other queries."""

import pytest
from msgspec.structs import replace

from schemas.latency import PIECES_SHARE
from schemas.status import InstanceStatus
from selector.choice import Choice, PolicyConfig
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.overload import LoadShedder
from selector.policy import choose
from selector.prediction import finish_s
from tests.unit.selector.story import FAST, NOW, instance, query, registered, state_of, status

CONFIG = PolicyConfig(upgrades=False)
LARGE = 6000


def one(**said: float) -> ClusterState:
    made = state_of(registered(FAST, ms=1))
    made.apply_status(status(replace(instance(FAST), **said)), NOW)
    return made


def served(where: ClusterState) -> Instance:
    return where.workers["cpu-0"].instances[FAST]


def given(where: ClusterState, number: int, offset: int = 100) -> None:
    """Send a large query and acknowledge it at this offset."""
    outcome = choose(query(batch=LARGE, id=str(number)), where, NOW, CONFIG)
    assert isinstance(outcome, Choice)
    where.sent(outcome.instance, outcome.partition, LARGE, NOW)
    where.acknowledged(outcome.instance, outcome.partition, offset, NOW, LARGE)


def test_large_queries_cause_no_refusal_of_small_ones() -> None:
    """As they wait at the worker, as they are sent, and as both: three of them take seconds, others go between."""
    waiting = one(queued=3, queued_inputs=3 * LARGE, queued_large=3, queued_large_inputs=3 * LARGE)
    sent, both = one(), one(queued=3, queued_inputs=3 * LARGE, queued_large=3, queued_large_inputs=3 * LARGE)
    for number in range(3):
        given(sent, number)
        given(both, number)
    for where in (waiting, sent, both):
        outcome = LoadShedder(CONFIG).decide(query(latency_ms=30), where, NOW)
        assert isinstance(outcome, Choice)
        assert outcome.predicted_s < 0.03


def test_finish_prediction_of_small_query_adds_one_piece() -> None:
    where, beside = (
        one(queued=4, queued_inputs=4),
        one(queued=5, queued_inputs=4 + LARGE, queued_large=1, queued_large_inputs=LARGE),
    )
    alone_s, model = finish_s(served(where), 1, NOW), served(where).model
    backlog_s = model.batch_s(served(where).waiting_in_slot(NOW))
    piece_s = model.query_s(model.piece_inputs)
    added_s = backlog_s * (1 / (1 - PIECES_SHARE) - 1) + piece_s
    assert finish_s(served(beside), 1, NOW) == pytest.approx(alone_s + added_s)


def test_finish_prediction_of_large_query_adds_others() -> None:
    idle, taught = one(), one(large_factor=3.0)
    behind = one(queued=1, queued_inputs=LARGE, queued_large=1, queued_large_inputs=LARGE)
    hop_s, model = served(idle).worker.hop_s, served(idle).model
    assert finish_s(served(idle), LARGE, NOW) == pytest.approx(hop_s + model.query_s(LARGE))
    assert finish_s(served(taught), LARGE, NOW) == pytest.approx(hop_s + 3 * model.query_s(LARGE))
    assert finish_s(served(behind), LARGE, NOW) == pytest.approx(hop_s + model.query_s(2 * LARGE))
    assert model.query_s(LARGE) > LARGE * model.input_s(), "calls and pieces cost, too"


def test_large_inputs_count_until_reported_done() -> None:
    where = one()
    given(where, 0)
    assert served(where).large_inputs == LARGE
    where.apply_status(status(instance(FAST)), NOW + 0.1)
    assert served(where).large_inputs == LARGE, "the worker has not read it"
    where.apply_status(status(read_by(101, queued=1, inputs=LARGE)), NOW + 0.2)
    assert served(where).large_inputs == LARGE
    where.apply_status(status(read_by(101)), NOW + 0.3)
    assert (served(where).large_inputs, served(where).mean_inputs) == (0, 1.0)


def read_by(position: int, queued: int = 0, inputs: int = 0) -> InstanceStatus:
    said = instance(FAST, queued=queued)
    partitions = tuple(replace(p, position=position, end=position) for p in said.partitions)
    return replace(said, partitions=partitions, queued_inputs=inputs, queued_large=queued, queued_large_inputs=inputs)
