"""The autoscaler's loops: observe, decide, act; one leader, the others stand by.

It decides at once when a selector demands a variant, when something is registered, or when workers or wishes change,
and otherwise after each reading. While a reading fails, or Postgres is away, the scale is held: what runs goes on.
"""

import asyncio
import logging
import time
from contextlib import AsyncExitStack

import msgspec

from autoscaler.act import carry_out
from autoscaler.decide.pareto import Ranking, offers_of, rank_variants
from autoscaler.decide.placement import decide
from autoscaler.decide.situation import Plan, Situation
from autoscaler.observe import Outage, Recorder
from autoscaler.settings import AutoscalerSettings
from autoscaler.view import View
from broker.lag import LagReader
from broker.settings import KafkaSettings
from broker.tail import Tail
from broker.topics import ensure_system_topics
from schemas import topics
from schemas.status import Demand, WorkerStatus
from service.observe import observed
from store.catalog import Catalog, CatalogWatcher
from store.changes import PLACEMENT, Changes
from store.errors import StoreConflict, StoreUnavailable
from store.leader import Leadership
from store.placement import list_instances, list_workers
from store.pool import Pool, open_pool
from store.settings import StoreSettings
from store.version import require_current

log = logging.getLogger(__name__)

_LEAD = "autoscaler"
_CLIENT = "infaas-autoscaler"
_FETCH_WAIT_MS = 50
_AS_STATUS = msgspec.json.Decoder(WorkerStatus)
_AS_DEMAND = msgspec.json.Decoder(Demand)


async def serve(settings: AutoscalerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event) -> None:
    """Lead, or stand by to lead, until `stop` is set.

    Raises:
        OperatorError: Kafka cannot be reached, or the database is of another version.
        StoreUnavailable: Postgres cannot be reached at the start.
    """
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(store.dsn))
        await require_current(pool)
        await ensure_system_topics(kafka)
        # Where the broker does not wake a waiting fetch, each wait costs it work; nobody waits for us by milliseconds.
        kafka = kafka.model_copy(update={"fetch_max_wait_ms": max(kafka.fetch_max_wait_ms, _FETCH_WAIT_MS)})
        catalog = await stack.enter_async_context(CatalogWatcher(store.dsn))
        await stack.enter_async_context(observed(settings.metrics_host, settings.metrics_port, lambda: True))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        leading = tasks.create_task(_lead(settings, kafka, store.dsn, pool, catalog), name="autoscaler")
        await stop.wait()
        leading.cancel()


async def _lead(
    settings: AutoscalerSettings, kafka: KafkaSettings, dsn: str, pool: Pool, catalog: CatalogWatcher
) -> None:
    while True:
        async with Leadership(dsn, _LEAD) as lead:
            log.info("leading")
            async with Tail(kafka, _CLIENT, [topics.STATUS, topics.DEMAND]) as tail, LagReader(kafka) as reader:
                await Autoscaler(settings, pool, catalog, lead, reader).run(tail, Changes(dsn, [PLACEMENT]))
            log.warning("no longer leading; standing by")


class Autoscaler:
    """One term of lead."""

    def __init__(
        self, settings: AutoscalerSettings, pool: Pool, catalog: CatalogWatcher, lead: Leadership, reader: LagReader
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._catalog = catalog
        self._lead = lead
        self._view = View(time.monotonic, settings.status_s)
        self._recorder = Recorder(settings, reader, pool, self._view)
        self._served: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._outage = Outage("deciding")
        self._unplaced: dict[str, str] = {}
        self._ranked: tuple[Catalog, dict[tuple[str, str], float], Ranking] | None = None

    async def run(self, tail: Tail, changes: Changes) -> None:
        """Observe, decide and act until the lead is lost."""
        async with changes, asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._listen(tail), name="listen"),
                tasks.create_task(self._follow_placement(changes), name="placement"),
                tasks.create_task(self._follow_catalog(), name="catalog"),
                tasks.create_task(self._record(), name="record"),
                tasks.create_task(self._decide(), name="decide"),
            ]
            await self._lead.lost.wait()
            for loop in loops:
                loop.cancel()

    # -- what wakes the decision ---------------------------------------------------------------------------------------

    async def _listen(self, tail: Tail) -> None:
        async for record in tail:
            try:
                if record.topic == topics.STATUS:
                    self._view.on_status(_AS_STATUS.decode(record.value or b""))
                else:
                    self._view.on_demand(_AS_DEMAND.decode(record.value or b""))
                    self._wake.set()
            except msgspec.DecodeError as error:
                log.warning("ignoring a record of %s: %s", record.topic, error)

    async def _follow_placement(self, changes: Changes) -> None:
        async for _channel in changes:
            self._wake.set()

    async def _follow_catalog(self) -> None:
        while True:
            await self._catalog.changed()
            self._wake.set()

    async def _record(self) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            await self._recorder.record(self._catalog.current, self._served)
            self._wake.set()
            # A reading that took too long is not made up for: the next is a full period after it at most.
            due_s = max(due_s + self._settings.every_s, clock())
            await asyncio.sleep(due_s - clock())

    # -- the decision --------------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._decide_once()
            except (StoreUnavailable, StoreConflict) as error:  # a conflict: what we decided from has changed since
                self._outage.begins(error)
            else:
                self._outage.ends()

    async def _decide_once(self) -> None:
        catalog = self._catalog.current
        situation = await self._situation(catalog)
        plan = decide(catalog.variants, self._ranking(catalog, situation), situation, self._settings.limits)
        await carry_out(plan, self._lead)
        self._tell_unplaced(plan)

    async def _situation(self, catalog: Catalog) -> Situation:
        rows = await list_workers(self._pool)
        instances = await list_instances(self._pool)
        self._view.forget(catalog.variants, {row.name for row in rows})
        workers = tuple(msgspec.structs.replace(row, alive=self._view.is_alive(row)) for row in rows)
        living = {worker.name for worker in workers if worker.alive}
        self._served = frozenset(row.variant for row in instances if row.worker in living)
        return Situation(
            known=self._recorder.known,
            workers=workers,
            instances=tuple(instances),
            demand_age_s=self._view.demand_age_s(),
            idle_s=self._view.idle_s(),
            observed_s=self._view.observed_s,
        )

    def _ranking(self, catalog: Catalog, situation: Situation) -> Ranking:
        """Of thousands of variants it takes a while, so it is kept until the catalog or what workers offer changes."""
        offers = offers_of(situation.workers)
        if self._ranked is None or self._ranked[0] is not catalog or self._ranked[1] != offers:
            self._ranked = catalog, offers, rank_variants(catalog.variants, catalog.profiles, offers)
        return self._ranked[2]

    def _tell_unplaced(self, plan: Plan) -> None:
        for variant, reason in plan.unplaced.items():
            if self._unplaced.get(variant) != reason:
                log.warning("no place for %s: %s", variant, reason)
        self._unplaced = plan.unplaced
