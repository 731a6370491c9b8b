"""Tests of the worker reconciler with a fake launcher and a real database."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from autoscaler.apply.reconcile_plan import ReconcileStep, ReconcileTimeouts
from autoscaler.apply.worker_reconciler import WorkerReconciler
from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LauncherError
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.observe.status_cache import WorkerStatusCache
from schemas.rows.cluster import DecisionKind, WantedWorkers
from store.leader import Leadership
from store.placement import list_workers, register_worker
from store.pool import Pool
from store.samples import list_decisions
from store.scaling import put_wanted
from tests.example_rows import a_worker
from tests.waiting import until

CPU = HardwareType(name="cpu", price_per_hour=0.1, start_s=0.1, slots=1, memory_bytes=10**9, maximum=3)


class FakeLauncher:
    """Launcher that keeps its workers in a dictionary and records its orders."""

    def __init__(self) -> None:
        self.there: dict[str, LaunchState] = {}
        self.orders: list[str] = []
        self.broken = ""

    @property
    def name(self) -> str:
        return "fake"

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        return {"cpu": CPU}

    async def running(self) -> list[LaunchedWorker]:
        return [LaunchedWorker(worker=name, hardware="cpu", state=state) for name, state in self.there.items()]

    async def start(self, hardware: str, worker: str) -> None:
        self.orders.append(f"start {worker}")
        if self.broken:
            raise LauncherError(self.broken)
        self.there.setdefault(worker, LaunchState.RUNNING)

    async def stop(self, worker: str) -> None:
        self.orders.append(f"stop {worker}")
        self.there.pop(worker, None)


@asynccontextmanager
async def reconciling(launcher: FakeLauncher, dsn: str, pool: Pool) -> AsyncGenerator[WorkerReconciler]:
    async with Leadership(dsn, "autoscaler") as lead, asyncio.TaskGroup() as tasks:
        reconciler = WorkerReconciler(launcher, ReconcileTimeouts(), pool, lead, WorkerStatusCache(time.monotonic, 1.0))
        running = tasks.create_task(reconciler.run())
        yield reconciler
        running.cancel()


async def want(pool: Pool, reconciler: WorkerReconciler, count: int) -> None:
    await put_wanted(pool, [WantedWorkers(hardware="cpu", count=count, reason=f"load for {count}")])
    reconciler.wake()


async def woken_until(reconciler: WorkerReconciler, holds: Callable[[], Awaitable[bool]]) -> None:
    """Wake the reconciler repeatedly until the condition holds."""

    async def woken() -> bool:
        reconciler.wake()
        return await holds()

    await until(woken)


async def test_reconciler_follows_wanted_counts_and_logs_decisions(database: str, store_pool: Pool) -> None:
    launcher = FakeLauncher()

    async def there(*names: str) -> bool:
        return set(launcher.there) == set(names)

    async with reconciling(launcher, database, store_pool) as reconciler:
        await want(store_pool, reconciler, 2)
        await woken_until(reconciler, lambda: there("cpu-0", "cpu-1"))
        for name in launcher.there:
            await register_worker(store_pool, a_worker(name))
        await want(store_pool, reconciler, 1)
        await woken_until(reconciler, lambda: there("cpu-0"))
        # The process ended without removing its row; the reconciler removes it, because the worker has drained.
        await store_pool.execute("UPDATE workers SET heartbeat_at = now() - interval '1 minute' WHERE name = 'cpu-1'")
        await woken_until(reconciler, lambda: only_worker_is(store_pool, "cpu-0"))
    assert launcher.orders == ["start cpu-0", "start cpu-1", "stop cpu-1"]
    decisions = await list_decisions(store_pool)
    assert [(row.action, row.worker) for row in reversed(decisions)] == [
        ("start", "cpu-0"), ("start", "cpu-1"), ("drain", "cpu-1"), ("stop", "cpu-1"), ("remove", "cpu-1"),
    ]  # fmt: skip
    assert {(row.kind, row.hardware) for row in decisions} == {(DecisionKind.WORKER, "cpu")}
    assert [row.reason for row in decisions if row.action == "drain"] == ["load for 1"]


async def only_worker_is(pool: Pool, name: str) -> bool:
    return [row.name for row in await list_workers(pool)] == [name]


async def test_reconciler_backs_off_failing_launcher_and_logs_reason(database: str, store_pool: Pool) -> None:
    launcher = FakeLauncher()
    launcher.broken = "no machine left"
    async with reconciling(launcher, database, store_pool) as reconciler:
        began = time.monotonic()  # before the request, since the reconciler may start at once
        await want(store_pool, reconciler, 1)

        async def failed_twice() -> bool:
            return [row.action for row in await list_decisions(store_pool)].count("start failed") >= 2

        await woken_until(reconciler, failed_twice)
        assert time.monotonic() - began >= 1.0
    decisions = await list_decisions(store_pool)
    # Each attempt is recorded at its start and at its failure; on a slow machine a third may have started.
    assert [row.action for row in reversed(decisions)][:4] == ["start", "start failed", "start", "start failed"]
    assert {row.reason for row in decisions if row.action == "start failed"} == {"no machine left"}


async def test_reconciler_without_leadership_starts_nothing(database: str, store_pool: Pool) -> None:
    launcher, before = FakeLauncher(), failed_starts()

    async def both_failed() -> bool:
        return failed_starts() >= before + 2

    async with reconciling(launcher, database, store_pool) as reconciler:
        await store_pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'infaas-leader'"
        )
        await want(store_pool, reconciler, 2)
        await woken_until(reconciler, both_failed)
    assert launcher.orders == []
    assert await list_decisions(store_pool) == []


def failed_starts() -> float:
    """Return the number of failed attempts to start a worker, each without leadership or with a broken launcher."""
    labels = {"step": ReconcileStep.START, "outcome": "failed"}
    return REGISTRY.get_sample_value("infaas_autoscaler_worker_steps_total", labels) or 0.0
