"""The loops of a selector process.

    intake     topics of online queries -> Dispatcher, batch by batch
    offline    topics of offline queries -> OfflineDispatcher, which forwards them when instances are idle
    retry      repeats unacknowledged sends
    statuses   the workers' statuses -> ClusterState
    metadata   fetches metadata of topics of newly loaded variants, before queries need it
    catalog    the catalog -> ClusterState; subscribes to new tasks, learns new partitions
    housekeep  drops silent workers, updates the shares of tasks, publishes metrics
    report     the load of the last second -> the autoscaler

Stopping ends the intake first; the other loops run until all taken queries are acknowledged.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from broker.delivery.consumer import Consumer
from broker.delivery.in_flight import RecordMemory
from broker.fetch.fetch_request import LONGEST_MS, FetchPace
from broker.fetch.tail import Tail
from broker.kafka.cluster import KafkaReachability, broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics, ensure_topics, task_specs, tenant_specs
from broker.kafka.types import APPEND_TIME, Record
from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from process.backoff import Backoff
from process.collection import tune_gc
from process.health import health_server
from process.pauses import retry_until_reachable
from process.security.access import users_by_name
from process.signing import SigningSettings
from process.tracing.tracer import Tracer, open_tracer
from schemas.catalog import Catalog
from schemas.errors import OperatorError
from schemas.query import believed_ms
from schemas.status import WorkerStatus
from schemas.topics import (
    LANES,
    LOAD,
    OFFLINE_SELECTOR_GROUP,
    SELECTOR_GROUP,
    STATUS,
    TASKS,
    ingress_topic,
    offline_of,
    task_of,
    task_topic,
)
from schemas.versions import versions_of
from selector.admission.received_query import QueryReader
from selector.admission.signatures import Verifier
from selector.dispatch.dispatcher import DemandSender, DispatchContext
from selector.dispatch.load_meter import REPORT_INTERVAL_S, LoadMeter
from selector.dispatch.metrics import SelectorMetrics
from selector.dispatch.offline import OfflineDispatcher
from selector.dispatch.online import Dispatcher
from selector.dispatch.spans import DecisionSpans
from selector.policy.cluster_state import HOUSEKEEPING_INTERVAL_S, ClusterState
from selector.policy.replicas import TaskShare
from selector.settings import SelectorSettings
from store.catalog import CatalogWatcher
from store.leader import held_name
from store.shared_connection import SharedConnection
from store.system import read_system_secret

log = logging.getLogger(__name__)

_STATUSES_SINCE_MS: Final = 2500
"""Age in milliseconds of the statuses that a starting selector reads; workers without queries send one a second."""
_STATUS_WAIT_MS: Final = 100
"""Longest delay in milliseconds of statuses where the broker does not wake a waiting fetch; queries are assumed to be
delayed as much.
"""
_BACKOFF: Final = Backoff(first_s=0.5, longest_s=10.0)
_OFFLINE_IN_FLIGHT: Final = 1_000_000
"""Practically unlimited: held queries and the backlogs of instances have limits of their own."""
_encode: Final = msgspec.json.Encoder().encode
_status: Final = msgspec.json.Decoder(WorkerStatus)


class Selector:
    """One selector over open connections; call `run` once."""

    def __init__(
        self,
        settings: SelectorSettings,
        kafka: KafkaSettings,
        consumer: Consumer,
        offline_consumer: Consumer,
        producer: Producer,
        streams: ReplyStreamSender,
        statuses: Tail,
        catalogs: CatalogWatcher,
        system_secret: bytes,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._consumer = consumer
        self._offline_consumer = offline_consumer
        self._producer = producer
        self._statuses = statuses
        self._catalogs = catalogs
        self._state = ClusterState(settings.status_ttl_s, settings.hop_s)
        self._metrics = SelectorMetrics()
        self._load_meter = LoadMeter(settings.instance_id)
        self._verifier = Verifier(SigningSettings().read(), settings.signature_window_s, system_secret)
        self._reader = QueryReader(settings.tenant_headers, self._verifier)
        config, demands = settings.policy_config(), DemandSender(producer, settings.demand_interval_s)
        context = DispatchContext(
            state=self._state,
            config=config,
            producer=producer,
            metrics=self._metrics,
            load_meter=self._load_meter,
            demands=demands,
            streams=streams,
            spans=None if tracer is None else DecisionSpans(tracer, self._state, config),
            attempts=settings.attempts,
            reader=self._reader,
        )
        self._dispatcher = Dispatcher(context, consumer, kafka.max_linger_ms / 1e3)
        self._offline = OfflineDispatcher(context, offline_consumer)
        self._subscribed: dict[str, int] = {}
        """Online topics with their numbers of partitions; each has an offline topic beside it."""
        self._instances_began = asyncio.Event()
        self._waiting = False
        self.ready = False
        """True while queries are being dispatched."""

    @property
    def problem(self) -> str:
        """Reason why some queries are not dispatched by any selector, if this one knows; empty if there is none."""
        if not self.ready:
            return "it is starting or stopping"
        return self._consumer.problem or self._offline_consumer.problem

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set and all taken queries are acknowledged."""
        await self._register(self._catalogs.current)
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(self._follow_statuses(), name="statuses"),
                tasks.create_task(self._fetch_metadata(), name="metadata"),
                tasks.create_task(self._follow_catalog(), name="catalog"),
                tasks.create_task(self._housekeep(), name="housekeep"),
                tasks.create_task(self._report(), name="report"),
                tasks.create_task(self._dispatcher.retry_failed(), name="retry"),
                tasks.create_task(self._offline.retry_failed(), name="retry offline"),
            ]
            # Recent statuses are read first, and busy workers send one each 100 ms, so by then all are known.
            await asyncio.sleep(self._settings.startup_listen_s)
            tune_gc()
            intake = tasks.create_task(self._intake(stop), name="intake")
            reading = tasks.create_task(self._offline.read(), name="read offline")
            forwarding = tasks.create_task(self._offline.forward(), name="forward offline")
            self.ready = True
            await stop.wait()
            self.ready = False
            if self._waiting:
                intake.cancel()
            reading.cancel()
            self._offline.stop()
            await asyncio.wait({intake, reading, forwarding})
            await self._consumer.drained()
            await self._offline_consumer.drained()
            for task in others:
                task.cancel()

    async def _intake(self, stop: asyncio.Event) -> None:
        take, poll = self._dispatcher.take_all, self._consumer.poll
        while not stop.is_set():
            self._waiting = True
            records = await poll(self._settings.batch)
            self._waiting = False
            start = time.perf_counter()
            await take(records)
            self._dispatcher.rest()
            self._metrics.batch_decided(len(records), time.perf_counter() - start)
            if len(records) == self._settings.batch:  # more may be buffered: `poll` and `take` would never yield
                await asyncio.sleep(0)

    async def _follow_statuses(self) -> None:
        async for record in self._statuses:
            try:
                status = _status.decode(record.value or b"")
            except msgspec.MsgspecError as error:
                log.warning("a worker's status cannot be read; its version may differ: %s", error)
                continue
            one_way_s = self._one_way_s(record, status)
            self._state.apply_status(status, time.monotonic(), one_way_s)
            if one_way_s is not None:
                self._metrics.status_used(one_way_s)
            self._offline.look()
            if self._state.newly_served:
                self._instances_began.set()

    def _one_way_s(self, record: Record, status: WorkerStatus) -> float | None:
        """Return the seconds that a status took from its worker to here; None if it was read later."""
        if self._statuses.is_replayed(record):
            return None
        clocks, leader = self._producer.clock, self._statuses.leader(record)
        if record.timestamp_type == APPEND_TIME:
            clocks.on_record(leader, record.timestamp)
        now_ms = time.monotonic() * 1e3 + clocks.offset_of(leader)
        return (now_ms - believed_ms(status.at_ms, record.timestamp)) / 1e3

    async def _fetch_metadata(self) -> None:
        # Not for all registered topics: a client that knows 10,000 topics spends its time on metadata.
        while True:
            await self._instances_began.wait()
            self._instances_began.clear()
            topics = {topic for v in self._state.newly_served for topic in v.topics}
            self._state.newly_served.clear()
            await self._producer.prefetch_metadata(topics)

    async def _housekeep(self) -> None:
        while True:
            now = time.monotonic()
            self._state.expire(now)
            self._state.use_shares(task_shares(self._consumer.reading, self._subscribed))
            self._metrics.publish(self._state, self._consumer.in_flight, self._offline.held, now)
            await asyncio.sleep(HOUSEKEEPING_INTERVAL_S)

    async def _report(self) -> None:
        # The result is not awaited: the autoscaler tolerates a missing report, and the next one is due in a second.
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            report = self._load_meter.report(self._producer.clock.now_ms(), self._offline.of_lanes())
            await self._producer.post(LOAD, _encode(report), lambda _outcome: None, key=report.selector.encode())

    # -- the catalog ---------------------------------------------------------------------------------------------------

    async def _follow_catalog(self) -> None:
        while True:
            await self._catalogs.changed()
            await retry_until_reachable(  # the old subscription lasts as long as Kafka fails or refuses
                lambda: self._register(self._catalogs.current),
                OperatorError,
                _BACKOFF,
                failed=lambda error: log.error("cannot serve new tasks, will try again: %s", error),
            )

    async def _register(self, catalog: Catalog) -> None:
        measures = {name: task.measure for name, task in catalog.tasks.items()}
        versions = versions_of(catalog.architectures, catalog.rollouts)
        users = users_by_name(catalog.access, catalog.architectures.values())
        grown = self._state.register(
            catalog.tasks, catalog.variants.values(), catalog.profiles, measures, versions, users
        )
        if grown:
            topics = [topic for variant in grown for topic in variant.topics]
            await self._producer.prefetch_metadata(topics, refresh=True)
        self._reader.inputs = {name: task.inputs for name, task in catalog.tasks.items()}
        self._verifier.key_numbers = {
            name: tenant.key_number for name, tenant in catalog.tenants.items() if not tenant.removing
        }
        specs = {task_topic(name): task_specs(name, task.partitions) for name, task in catalog.tasks.items()}
        specs |= {
            ingress_topic(name): tenant_specs(name, tenant.partitions)
            for name, tenant in catalog.tenants.items()
            if not tenant.removing
        }
        await ensure_topics(self._kafka, [s for topic in specs.keys() - self._subscribed.keys() for s in specs[topic]])
        counts = {topic: queries.partitions for topic, (queries, *_) in specs.items()}
        more = any(counts.get(topic, 0) > known for topic, known in self._subscribed.items())
        # Topics of tasks and tenants in removal are read until they are gone, so that queries get an error.
        leaving = [task_topic(name) for name in catalog.removing] + [ingress_topic(name) for name in catalog.tenants]
        heard = dict.fromkeys(leaving, 0) | counts
        gone = [topic for topic, count in heard.items() if not count]
        self._consumer.passing_topics = frozenset(gone)
        self._offline_consumer.passing_topics = frozenset(map(offline_of, gone))
        if heard.keys() != self._subscribed.keys():
            await self._consumer.subscribe(heard)
            await self._offline_consumer.subscribe([LANES, *map(offline_of, heard)])
            log.info("serving %d tasks and %d tenants", len(catalog.tasks), len(catalog.tenants))
        elif more:
            await self._consumer.refresh_partitions()
            await self._offline_consumer.refresh_partitions()
        self._subscribed = heard  # set last, so that a failed attempt is repeated


def task_shares(reading: Iterable[tuple[str, int]], counts: Mapping[str, int]) -> dict[str, TaskShare]:
    """Return the share of each task of which partitions are read; `counts` are the partitions of topics."""
    numbers = defaultdict[str, set[int]](set)
    for topic, number in reading:
        numbers[topic].add(number)
    return {
        task_of(topic): TaskShare(frozenset(found), max(counts.get(topic, 0), max(found) + 1))
        for topic, found in numbers.items()
        if topic.startswith(TASKS)
    }


async def serve(settings: SelectorSettings, kafka: KafkaSettings, dsn: str, stop: asyncio.Event) -> None:
    """Run a selector process: open the connections, serve until `stop` is set, close them.

    Raises:
        OperatorError: another selector with this name is running.
    """
    reachability = KafkaReachability(kafka)
    name = held_name(dsn, "selector", settings.instance_id, "INFAAS_SELECTOR_INSTANCE_ID")
    async with name, open_selector(settings, kafka, dsn) as selector:

        async def problem() -> str:
            return await reachability.problem() or selector.problem

        async with health_server(settings.metrics_host, settings.metrics_port, problem):
            await selector.run(stop)


@asynccontextmanager
async def open_selector(settings: SelectorSettings, kafka: KafkaSettings, dsn: str) -> AsyncGenerator[Selector]:
    """Open a selector, with connections that close at the end of the block.

    Raises:
        InfaasError: Kafka or Postgres cannot be reached.
    """
    await ensure_system_topics(kafka)
    client_id = f"infaas-{settings.instance_id}"
    late_ms = LONGEST_MS if (await broker_features(kafka)).wakes else _STATUS_WAIT_MS
    async with AsyncExitStack() as stack:
        tracer = await stack.enter_async_context(open_tracer("selector", settings.instance_id))

        async def consumer(client: str, group: str, max_in_flight: int) -> Consumer:
            return await stack.enter_async_context(
                Consumer(
                    kafka,
                    client,
                    group=group,
                    instance_id=settings.instance_id,
                    max_in_flight=max_in_flight,
                    memory=memory,
                    clocks=producer.clock,
                )
            )

        connection = await stack.enter_async_context(SharedConnection(dsn))
        catalogs = await stack.enter_async_context(CatalogWatcher(connection))
        system_secret = await read_system_secret(connection)
        producer = await stack.enter_async_context(Producer(kafka, client_id, max_in_flight=settings.max_in_flight * 2))
        streams = await stack.enter_async_context(
            ReplyStreamSender(kafka.reply_stream, kafka_encrypted=kafka.encrypted)
        )
        # An empty report; its acknowledgement teaches the broker's time, by which statuses are looked up.
        await producer.learn_time(LOAD, _encode(LoadMeter(settings.instance_id).report(producer.clock.now_ms())))
        since_ms = producer.clock.now_ms() - _STATUSES_SINCE_MS
        pace = FetchPace(kafka, longest_ms=late_ms, lazy=True)
        statuses = await stack.enter_async_context(Tail(kafka, client_id, [STATUS], pace, since_ms=since_ms))
        memory = RecordMemory(kafka.max_in_flight_bytes)
        online = await consumer(client_id, SELECTOR_GROUP, settings.max_in_flight)
        offline = await consumer(f"{client_id}-offline", OFFLINE_SELECTOR_GROUP, _OFFLINE_IN_FLIGHT)
        yield Selector(settings, kafka, online, offline, producer, streams, statuses, catalogs, system_secret, tracer)
