"""Tests of predictions where queries differ: several inputs, large queries, inputs of uneven length."""

import math

import msgspec
import pytest
from msgspec.structs import replace

from autoscaler.decide.throughput import best_throughput
from schemas.latency import PIECES_SHARE, BatchLatency, LatencyModel
from schemas.status import InstanceStatus
from selector.admission.overload import LoadShedder
from selector.policy.choice import Choice
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import finish_s
from tests.unit.selector.story import (
    BEST,
    FAST,
    GOOD,
    NO_UPGRADES,
    NOW,
    TASK,
    chosen,
    instance,
    profile,
    query,
    refused,
    registered,
    state_of,
    status,
    three,
    variant,
)

CASCADE, EVEN = "cascade.t80.cpu", "large.onnx-fp32.cpu"
UNEVEN = (BatchLatency(1, 0.001, 0.012, mean_s=0.004), BatchLatency(8, 0.020, 0.080, mean_s=0.025))


def uneven() -> ClusterState:
    state = state_of(
        (variant(CASCADE), replace(profile(CASCADE), latency=UNEVEN)), (variant(EVEN), profile(EVEN, ms=8))
    )
    state.apply_status(status(instance(CASCADE), instance(EVEN)), NOW)
    return state


def test_uneven_variant_is_priced_by_mean() -> None:
    choice = chosen(query(latency_ms=1000), uneven())
    assert choice.variant.name == CASCADE
    assert choice.cost == pytest.approx(0.004 * 0.048 / 3.6)


def test_uneven_variant_is_chosen_if_p99_is_in_time() -> None:
    choice = chosen(query(latency_ms=18), uneven())
    assert choice.variant.name == CASCADE
    assert choice.predicted_s >= 0.012
    assert chosen(query(latency_ms=13), uneven()).variant.name == EVEN
    refused(query(latency_ms=7), uneven())


def test_best_throughput_of_uneven_variant_uses_mean() -> None:
    latency = LatencyModel(UNEVEN, 8)
    assert best_throughput(latency, math.inf, 1.0, 1.0).rate == pytest.approx(8 / 0.025)
    assert best_throughput(latency, 0.160, 1.0, 1.0).rate == pytest.approx(4 / 0.013), "8 are less than 5 % faster"
    assert best_throughput(latency, 0.011, 1.0, 1.0).rate == 0.0


ASKED, OTHER = "mlp.onnx-fp32.cpu", "cnn.onnx-fp32.cpu"


def both(asked: InstanceStatus, backlog_s: float) -> ClusterState:
    """Return a state of a worker with two slots and two variants, of which ASKED has queries."""
    profiles = [profile(ASKED, ms=20.0), profile(OTHER, ms=20.0)]
    state = ClusterState()
    state.register([TASK], [variant(ASKED), variant(OTHER)], {p.variant: p for p in profiles})
    state.apply_status(status(asked, instance(OTHER, parallel=2), slots=2, backlog_s=backlog_s), NOW)
    return state


def queued(queries: int, inputs: int) -> InstanceStatus:
    return msgspec.structs.replace(instance(ASKED, parallel=2), queued=queries, queued_inputs=inputs)


def instance_of(state: ClusterState, name: str) -> Instance:
    return state.workers["cpu-0"].instances[name]


@pytest.mark.parametrize(("queries", "inputs", "slots"), [(1, 6, 1), (1, 1, 1), (2, 12, 2), (6, 6, 2), (0, 0, 0)])
def test_instance_busy_counts_one_slot_per_query(queries: int, inputs: int, slots: int) -> None:
    state = both(queued(queries, inputs), 0.05 * bool(queries))
    assert instance_of(state, ASKED).busy == slots
    assert instance_of(state, OTHER).lacks_slot == (slots == 2)
    others = finish_s(instance_of(state, OTHER), 6, NOW)
    unhindered = finish_s(instance_of(both(queued(0, 0), 0.0), OTHER), 6, NOW)
    assert (others == pytest.approx(unhindered)) == (slots < 2)


def test_instance_waiting_in_slot_uses_free_slot() -> None:
    one, two = (instance_of(both(queued(queries, 6 * queries), 0.05), ASKED) for queries in (1, 2))
    assert (one.waiting_in_slot(NOW), two.waiting_in_slot(NOW)) == (0, 6)


def test_instance_busy_counts_batches_of_larger_query() -> None:
    state = both(queued(1, 64), 0.2)
    assert instance_of(state, ASKED).model.max_batch < 64
    assert instance_of(state, ASKED).busy == 2


LARGE = 6000


def one(**said: float) -> ClusterState:
    made = state_of(registered(FAST, ms=1))
    made.apply_status(status(replace(instance(FAST), **said)), NOW)
    return made


def served(where: ClusterState) -> Instance:
    return where.workers["cpu-0"].instances[FAST]


def given(where: ClusterState, number: int, offset: int = 100) -> None:
    """Send a large query and acknowledge it at this offset."""
    choice = chosen(query(batch=LARGE, id=str(number)), where)
    where.sent(choice.instance, choice.partition, LARGE, NOW, NOW)
    where.acknowledged(choice.instance, choice.partition, offset, NOW, LARGE)


def test_large_queries_cause_no_refusal_of_small_ones() -> None:
    """As they wait at the worker, as they are sent, and as both: three of them take seconds, others go between."""
    waiting = one(queued=3, queued_inputs=3 * LARGE, queued_large=3, queued_large_inputs=3 * LARGE)
    sent, both = one(), one(queued=3, queued_inputs=3 * LARGE, queued_large=3, queued_large_inputs=3 * LARGE)
    for number in range(3):
        given(sent, number)
        given(both, number)
    for where in (waiting, sent, both):
        outcome = LoadShedder(NO_UPGRADES).decide(query(latency_ms=30), where, NOW)
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


@pytest.mark.parametrize(("offline", "delayed"), [(1, False), (2, True)])
def test_offline_work_delays_online_only_without_a_free_slot(offline: int, delayed: bool) -> None:
    state = state_of(registered(FAST, ms=50))
    said = replace(instance(FAST, queued=offline, parallel=2), queued_offline_inputs=offline)
    state.apply_status(status(said), NOW)
    worker = state.workers["cpu-0"]
    alone_s = worker.hop_s + worker.instances[FAST].model.promised_s(1)
    predicted_s = finish_s(worker.instances[FAST], 1, NOW)
    assert (predicted_s > alone_s + 0.02) is delayed


def test_queries_of_other_selectors_take_slots() -> None:
    """An acknowledgement shows two of them: with the query of this selector they fill both slots of the worker."""
    where = three()
    choice = chosen(query(target=FAST), where)
    where.sent(choice.instance, choice.partition, 1, NOW, NOW)
    beside = where.workers["cpu-0"].instances[GOOD]
    assert beside.others_wait_s(NOW) == 0.0
    where.acknowledged(choice.instance, choice.partition, 102, NOW)
    assert beside.others_wait_s(NOW) > 0.0


@pytest.mark.parametrize("offset", [-1, 97, 99, 100, 105])
def test_acknowledgements_of_a_batch_count_each_query(offset: int) -> None:
    """Three queries are acknowledged at once, or one after another: before, at and behind the known end."""
    accounts: list[object] = []
    for together in (True, False):
        where = three()
        choice = chosen(query(target=FAST), where)
        served, partition = choice.instance, choice.partition
        assert served is not None
        for _ in range(3):
            where.sent(served, partition, 1, NOW, NOW)
        if together:
            where.acknowledged(served, partition, offset, NOW, queries=3)
        else:
            for number in range(3):
                where.acknowledged(served, partition, offset + number if offset >= 0 else -1, NOW)
        state = [partition.end, partition.position, partition.unacked, round(served.level, 6), served.worker.free_at]
        accounts.append(state)
    assert accounts[0] == accounts[1]


@pytest.mark.parametrize("end", [-1, 0])
def test_acknowledgement_without_offset_leaves_end(end: int) -> None:
    """The broker only knows that it has the batch."""
    where = three()
    (partition, *_) = where.partitions(chosen(query(target=BEST), where).variant)
    partition.end = end
    for _ in range(3):
        where.sent(None, partition, 1, NOW, NOW)
    where.acknowledged(None, partition, -1, NOW, queries=3)
    assert (partition.end, partition.position, partition.unacked) == (end, -1, 0)
