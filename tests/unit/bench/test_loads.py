"""Tests of the loads on which fleets are compared."""

import numpy as np
from numpy.typing import NDArray

from bench.scale.loads import TASKS, azure_code, peaks_in_turn
from schemas.latency import BatchLatency
from simulator.catalogue import Catalogue, CatalogueVariant
from simulator.trace import Trace

SECONDS = 90.0
CATALOGUE = Catalogue(
    hardware=(),
    variants=tuple(
        CatalogueVariant(
            name=f"{task}-a.onnx-fp32.cpu", task=task, architecture=f"{task}-a", hardware="cpu", max_batch=16,
            accuracy=0.99, load_s=0.1, memory_bytes=1, latency=(BatchLatency(16, 0.002, 0.002),), source="a test",
        )
        for task in TASKS
    ),
)  # fmt: skip


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
