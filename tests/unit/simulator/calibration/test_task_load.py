"""Tests of the loads of calibration scenarios."""

from typing import Any

import pytest
from msgspec.structs import replace

from schemas.errors import OperatorError
from simulator.calibration.task_load import TaskLoad, task_loads
from tests.unit.simulator.scenarios import a_catalogue, a_variant

SLOW = a_variant("slow", accuracy=0.9, batch_s=0.01, input_s=0.005)
FAST = a_variant("fast", accuracy=0.6, batch_s=1e-4, input_s=1e-5)
TINY = a_variant("tiny", task="digits", accuracy=0.9, batch_s=1e-5, input_s=1e-6)
CATALOGUE = a_catalogue(SLOW, FAST, TINY)


def load_of(task: str, fleet: dict[str, int]) -> TaskLoad:
    [load] = task_loads(CATALOGUE, fleet, [task])
    return load


def test_task_load_needs_accuracy_of_slow_variants() -> None:
    load = load_of("vision", {"cpu": 1})
    assert load.kind.min_accuracy == SLOW.accuracy
    assert load.kind.batch == 3, "20 ms at 6.25 ms an input, the best rate of the variant"
    assert load.query_s == pytest.approx(0.025)


def test_task_load_grows_with_fleet_and_slots() -> None:
    [one, three] = (load_of("vision", {"cpu": workers}) for workers in (1, 3))
    assert three.per_s == pytest.approx(3 * one.per_s)
    assert one.per_s == pytest.approx(2 * 2 / (0.01 + 6 * 0.005)), "two slots, two queries a batch of six inputs"


@pytest.mark.parametrize("field", [{"runtime": "onnx-tensorrt"}, {"threads": 2}])
def test_task_load_counts_one_batch_at_a_time_if_no_other_may_compute(field: dict[str, Any]) -> None:
    variant = a_variant("slow", batch_s=0.1, input_s=0.05)
    four, one = (a_catalogue(replace(variant, **fields), slots=4) for fields in ({}, field))
    [of_four], [of_one] = (task_loads(catalogue, {"cpu": 1}) for catalogue in (four, one))
    assert of_one.per_s == pytest.approx(of_four.per_s / 4)


def test_task_load_of_fast_models_is_limited() -> None:
    load = load_of("digits", {"cpu": 2})
    assert load.per_s == 200.0
    assert load.kind.batch == TINY.max_batch


def test_task_loads_begin_with_slowest_queries() -> None:
    assert [load.kind.task for load in task_loads(CATALOGUE, {"cpu": 1})] == ["vision", "digits"]


@pytest.mark.parametrize(("fleet", "tasks", "message"), [
    ({"cpu": 1}, ["sound"], "no ready variant of the task sound"),
    ({}, [], "no variant is registered for the running workers"),
])  # fmt: skip
def test_task_loads_refuse_what_cannot_be_loaded(fleet: dict[str, int], tasks: list[str], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        task_loads(CATALOGUE, fleet, tasks)
