"""Tests of `infaas top` on samples in the database."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from schemas.answer_times import quantile_s
from schemas.rows.cluster import DecisionRow
from schemas.rows.samples import AnswerTimesSample, InstanceSample, LoadSample, WorkerSample
from schemas.status import InstanceState
from store.placement import put_instances, register_worker, report_instance_state
from store.pool import Pool
from store.samples import maintain_partitions, write_decisions, write_samples
from tests.example_rows import a_worker, an_instance
from tests.unit.infaas.shell import Shell

VARIANT = "mlp.onnx-fp32.cpu"
TASK = "digits"


def a_load(at: datetime, *, accuracy: float = 0.0, max_costs: float = 0.0, **counts: int) -> LoadSample:
    return LoadSample(
        at=at, task=TASK, target=None, min_accuracy=accuracy, latency_ms=32.0, offline=False, inputs=0, upgraded=0,
        max_costs=max_costs,
        **{"queries": 0, "refused": 0, "capped": 0, "answered": 0, "late": 0, "failed": 0} | counts,
    )  # fmt: skip


async def test_top_adds_up_the_last_seconds(registered: Shell, store_pool: Pool) -> None:
    now = datetime.now(UTC)
    await maintain_partitions(store_pool, now, 7200, 86400)
    await register_worker(store_pool, a_worker("cpu-0"))
    await put_instances(store_pool, [an_instance(VARIANT, "cpu-0", (0,))])
    await report_instance_state(store_pool, "cpu-0", VARIANT, InstanceState.ACTIVE)
    loads = [
        a_load(now - timedelta(minutes=5), queries=7000, refused=7000),
        a_load(now - timedelta(seconds=2), accuracy=0.5, queries=60, refused=10, answered=45, late=5),
        a_load(now, max_costs=0.02, queries=60, capped=10, answered=45, failed=2),
    ]
    await write_samples(store_pool, loads)
    times = AnswerTimesSample(at=now, task=TASK, buckets=[24, 40], counts=[80, 10])
    await write_samples(store_pool, [times])
    served = InstanceSample(
        at=now, variant=VARIANT, worker="cpu-0", state=InstanceState.ACTIVE, queued=0, batch_size=1.0, batch_s=0.001,
        slowdown=1.0, answered=90, inputs=90, late=5, expired=0,
    )  # fmt: skip
    await write_samples(store_pool, [served])
    busy = WorkerSample(
        at=now, worker="cpu-0", hardware="cpu", slots=2, utilisation=0.25, memory_used=3 << 20, memory_total=4 << 30,
        cpus=2.0, cpu_busy=0.75,
    )  # fmt: skip
    await write_samples(store_pool, [busy])
    await write_decisions(
        store_pool, [DecisionRow(at=now, action="place", variant=VARIANT, worker="cpu-0", reason="load")]
    )

    found = json.loads((await asyncio.to_thread(registered, "top", "--json")).stdout)
    [task] = found["tasks"]
    assert (task["task"], task["queries_per_s"], task["refused"], task["late"], task["failed"]) == (TASK, 2.0, 10, 5, 2)
    assert task["offline_per_s"] == 0.0
    assert task["attainment"] == 1 - 17 / 100
    assert (task["wanted_accuracy"], task["wanted_cost"]) == (0.5, 0.002), "of the queries that state one"
    assert (task["p50_s"], task["p99_s"]) == (quantile_s({24: 1}, 1.0), quantile_s({40: 1}, 1.0))
    assert [one["variant"] for one in task["variants"]] == [VARIANT]
    assert task["given_accuracy"] == task["variants"][0]["accuracy"]
    [worker] = found["workers"]
    assert (worker["state"], worker["busy"], worker["cpu_busy"], worker["loaded"]) == ("alive", 0.25, 0.75, [VARIANT])
    assert [one["reason"] for one in found["decisions"]] == ["load"]

    shown = (await asyncio.to_thread(registered, "top", "--seconds=3600")).stdout
    assert all(
        word in shown
        for word in (TASK, "7,010", f"{VARIANT} 100%", "25.0%", "75.0%", "7.66 ms", "30.6 ms", "cpu-0", "load")
    )


async def test_top_of_an_idle_system_is_empty(registered: Shell) -> None:
    found = json.loads((await asyncio.to_thread(registered, "top", "--json")).stdout)
    assert (found["tasks"], found["workers"], found["decisions"]) == ([], [], [])
    assert "no worker is alive" in found["problems"]
