"""Tests of the loads on which fleets are compared."""

import numpy as np
from numpy.typing import NDArray

from bench.scale.loads import TASKS, azure_code, peaks_in_turn
from simulator.trace import Trace
from tests.unit.simulator.scenarios import a_catalogue, a_variant

SECONDS = 90.0
CATALOGUE = a_catalogue(
    *(a_variant(f"{task}-a", task=task, accuracy=0.99, batch_s=0.0, input_s=0.000125) for task in TASKS)
)


def test_peaks_in_turn_overload_one_task_at_a_time() -> None:
    trace = peaks_in_turn(CATALOGUE, SECONDS)
    third = (trace.time_s / SECONDS * 3).astype(int)
    counts = [[int(((third == part) & of_task(trace, task)).sum()) for part in range(3)] for task in TASKS]
    assert all(np.argmax(row) == number and max(row) > 4 * sorted(row)[1] for number, row in enumerate(counts))


def test_azure_code_has_arrivals_of_trace_at_ten_times_its_speed() -> None:
    trace = azure_code(CATALOGUE, SECONDS)
    assert SECONDS - 10 < trace.duration_s < SECONDS
    assert 20 < trace.rate_per_s < 35  # 8,819 requests in 57 minutes
    assert all(of_task(trace, task).mean() > 0.25 for task in TASKS)


def of_task(trace: Trace, task: str) -> NDArray[np.bool_]:
    return np.array([kind.task == task for kind in trace.kinds])[trace.kind]
