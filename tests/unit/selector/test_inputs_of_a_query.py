"""Tests of the slots that queries of several inputs take."""

import msgspec
import pytest

from schemas.status import InstanceStatus
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.prediction import finish_s
from tests.unit.selector.story import NOW, TASK, instance, profile, status, variant

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
