"""Two hundred workers on a default Postgres of a hundred connections, and the cost of a registration for watchers.

The fleet runs the real database clients of each worker: each keeps leases, follows its placement and watches the
catalog over its one connection; there are no models and no Kafka. During the run, instances are placed and a variant is
registered, and the bench measures when each worker notices.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import fmean
from typing import Final, cast

import msgspec

from bench.core.database import fresh_database, put_models, synthetic_profile, synthetic_variant
from bench.core.figures import Figure, beside, percentile, plain, within
from schemas.catalog import Catalog
from schemas.latency import BatchLatency
from schemas.rows.catalog import Task, TensorSpec
from schemas.rows.cluster import InstanceRow, WorkerRow
from store.catalog import CatalogWatcher, load_catalog, update_catalog
from store.placement import ALIVE_S, put_instances, register_worker
from store.pool import DatabaseSession, Pool, open_pool
from store.shared_connection import SharedConnection
from workers.instance_controller import InstanceController
from workers.lease import Leases
from workers.placement import PlacementFollower

WORKERS: Final = 200
_TASK: Final = "fleet"
_VARIANTS: Final = 1_000
_ROUNDS: Final = 9
_SECONDS: Final = 20.0
_SOON_S: Final = 60.0
_STARTING: Final = 10
_RENEW_S: Final = 2.0
"""Value of INFAAS_WORKERS_LEASE_RENEW_S; a fleet of this size should raise it, because each renewal may connect."""
_TTL_S: Final = 3 * _RENEW_S


class FleetWorker:
    """The parts of a worker that use Postgres."""

    def __init__(self, name: str, dsn: str) -> None:
        self.name = name
        self._dsn = dsn
        self.noticed: dict[str, float] = {}
        """Time at which each of its instances was noticed, by variant."""
        self.registered: dict[str, float] = {}
        """Time at which each registration was noticed, by variant."""
        self.connection: SharedConnection | None = None

    async def run(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        """Register and serve until `stop` is set; sets `ready` once it follows its placement."""
        async with AsyncExitStack() as stack:
            self.connection = database = await stack.enter_async_context(SharedConnection(self._dsn))
            catalog = await stack.enter_async_context(CatalogWatcher(database))
            epoch = await register_worker(database, a_worker(self.name))
            leases = Leases(database, self.name, epoch, _TTL_S, lambda _variant, _lost: None)
            placement = PlacementFollower(database, self.name, self._controller)
            async with asyncio.TaskGroup() as tasks:
                loops = [
                    tasks.create_task(leases.keep_renewing(_RENEW_S)),
                    tasks.create_task(self._watch(catalog)),
                ]
                following = tasks.create_task(placement.run(stop))
                ready.set()
                await following
                for loop in loops:
                    loop.cancel()

    async def _watch(self, catalog: CatalogWatcher) -> None:
        while True:
            for name in (await catalog.changed()).variants:
                self.registered.setdefault(name, time.monotonic())

    def _controller(self, row: InstanceRow) -> InstanceController:
        self.noticed[row.variant] = time.monotonic()
        return cast("InstanceController", _NoController(row.variant))


class _NoController:
    """Stand-in for the instance controller, without a model."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self._ended = asyncio.Event()

    async def run(self) -> None:
        await self._ended.wait()

    def update_row(self, row: InstanceRow | None) -> None:
        pass

    def recheck_leases(self) -> None:
        pass

    def shut_down(self) -> None:
        self._ended.set()


class FleetReport(msgspec.Struct, kw_only=True):
    """Measurements of a fleet."""

    connections: list[int]
    """Number of connections to the server, sampled."""
    oldest_s: list[float]
    """Age of the oldest heartbeat, sampled."""
    placed_s: list[float]
    """Seconds until each worker noticed its instance."""
    registered_s: list[float]
    """Seconds until each worker noticed a registration."""


async def watch_fleet(dsn: str, size: int, seconds: float) -> FleetReport:
    """Run `size` workers for `seconds`, and until each has sent one more heartbeat."""
    fleet = [FleetWorker(f"cpu-{number}", dsn) for number in range(size)]
    async with open_pool(dsn, max_size=1) as pool, _running(fleet):
        await register(pool, "first")
        seen = FleetReport(connections=[], oldest_s=[], placed_s=[], registered_s=[])
        variant = variant_name("first")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            seen.connections.append(cast("int", await pool.fetch_value(int, _COUNT)))
            seen.oldest_s.append(cast("float", await pool.fetch_value(float, _OLDEST)))
            await asyncio.sleep(0.1)
        await _all_beat(pool)
        began = time.monotonic()
        rows = [InstanceRow(variant=variant, worker=one.name, partitions=(), max_batch=1) for one in fleet]
        await put_instances(pool, rows)
        seen.placed_s = await _noticed([one.noticed for one in fleet], variant, began)
        began = time.monotonic()
        await register(pool, "second")
        seen.registered_s = await _noticed([one.registered for one in fleet], variant_name("second"), began)
    return seen


@asynccontextmanager
async def _running(fleet: list[FleetWorker]) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        try:
            ready = [asyncio.Event() for _ in fleet]
            for number, (worker, event) in enumerate(zip(fleet, ready, strict=True)):
                tasks.create_task(worker.run(event, stop))
                if number >= _STARTING:
                    await ready[number - _STARTING].wait()
            for event in ready:
                await event.wait()
            yield
        finally:
            stop.set()


async def _all_beat(pool: Pool) -> None:
    """Wait until each worker has sent one more heartbeat."""
    began = time.monotonic()
    async with asyncio.timeout(_SOON_S):
        while cast("float", await pool.fetch_value(float, _OLDEST)) > time.monotonic() - began:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.1)


async def _noticed(seen: list[dict[str, float]], name: str, began: float) -> list[float]:
    async with asyncio.timeout(_SOON_S):
        while not all(name in one for one in seen):  # noqa: ASYNC110 - two hundred workers, without events
            await asyncio.sleep(0.01)
    return [one[name] - began for one in seen]


async def register(session: DatabaseSession, *architectures: str) -> None:
    """Register architectures with a single variant each."""
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
    task = Task(name=_TASK, inputs=(tensor,), outputs=(tensor,), partitions=1)
    names = [variant_name(architecture) for architecture in architectures]
    latency = [BatchLatency(1, 0.01, 0.01)]
    models = [(synthetic_variant(name, _TASK, partitions=1), synthetic_profile(name, latency)) for name in names]
    await put_models(session, task, models)


def variant_name(architecture: str) -> str:
    """Return the name of the only variant of an architecture."""
    return f"{architecture}.onnx-fp32.cpu"


def a_worker(name: str) -> WorkerRow:
    """Return the row of a worker."""
    return msgspec.convert(
        {
            "name": name, "hardware": "cpu", "device": "", "host": "", "slots": 1, "threads": 1,
            "memory_bytes": 1 << 30, "price_per_hour": 0.1, "runtimes": ["onnx"], "lease_ttl_s": _TTL_S, "epoch": 0,
            "heartbeat_at": "2026-01-01T00:00:00Z",
        },
        WorkerRow,
    )  # fmt: skip


_COUNT: Final = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
_OLDEST: Final = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - heartbeat_at)), 0)::float8 FROM workers"


async def measure() -> list[Figure]:
    """Measure with 200 workers, on a server of its own."""
    async with fresh_database() as dsn:
        seen = await watch_fleet(dsn, WORKERS, _SECONDS)
    what = f"{WORKERS} workers on one Postgres of 100 connections"
    oldest_s = max(seen.oldest_s[len(seen.oldest_s) // 2 :])
    return [
        within(f"{what}: connections a worker, mean", "none", fmean(seen.connections) / WORKERS, "", 1.0),
        within(f"{what}: connections, most", "none", max(seen.connections), "", 100.0),
        within(f"{what}: oldest heartbeat", "none", oldest_s, "s", ALIVE_S),
        plain(f"{what}: an instance is noticed, p99", "none", percentile(seen.placed_s, 0.99), "s"),
        plain(f"{what}: a registration is noticed, p99", "none", percentile(seen.registered_s, 0.99), "s"),
    ]


# -- the cost of a registration ----------------------------------------------------------------------------------------


async def measure_registration() -> list[Figure]:
    """Measure one registration among a thousand variants: CPU time of a process that watches the catalog.

    A watcher reads only the changed rows; the baseline reads the whole catalog. The time does not include Postgres.
    """
    async with fresh_database() as dsn, open_pool(dsn, max_size=1) as pool:
        async with pool.transaction() as session:
            await register(session, "first", *(f"arch{number}" for number in range(_VARIANTS)))
        catalog = await load_catalog(pool)
        changed = ["architectures arch7", f"variants {variant_name('arch7')}", f"profiles {variant_name('arch7')}"]
        everything = await _cpu_ms(lambda: load_catalog(pool))
        what_changed = await _cpu_ms(lambda: update_catalog(pool, catalog, changed))
    name = f"one registration among {_VARIANTS} variants, per catalog watcher (baseline: reads everything)"
    return [beside(name, "none", what_changed, "ms", everything)]


async def _cpu_ms(read: Callable[[], Awaitable[Catalog]]) -> list[float]:
    took = list[float]()
    for _ in range(_ROUNDS):
        began = time.process_time()
        await read()
        took.append((time.process_time() - began) * 1e3)
    return took
