"""Unregisters a variant, an architecture or a task, with everything that belongs to it.

    mark       set rows to `removing`: gateways answer `unknown_task`, selectors no longer choose them, and nothing of
               this name can be registered
    release    delete the wanted instances: workers answer their queries, commit, release the partitions and unload
    close      close the variants' topics: Kafka refuses sends of selectors that have not yet read the change, and
               these select again
    move       move unread queries of the variants back to the task, where a selector chooses another variant. They keep
               their ids, needs and deadlines; copies for a shadow version are dropped, since nobody waits for them
    tell       for a task: close its topics, too, and wait until selectors have answered their queries
    delete     topics (the topic of results after a pause for its readers), files, and last the rows

Rules.
* Each step can be repeated, and the rows exist until everything else is deleted: an interrupted removal is completed by
  unregistering the same name again.
* A system removes one name at a time: a second removal waits for the first.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from broker.delivery.consumer import Consumer, Record
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import partitions_of, until_gone
from broker.kafka.types import KafkaError
from broker.lag.reader import LagReader
from broker.producing.closed_topics import close_topics
from broker.producing.producer import Producer
from registry.access import read_sight
from registry.artifacts import ArtifactStore
from registry.removal.removal_plan import (
    check_may_remove,
    check_serves_not,
    check_unused,
    find_registered,
    plan_removal,
    topics_of,
)
from registry.removal.unused_files import unused_files
from registry.request import ProgressSink
from registry.system_identity import join_system
from registry.topics import drain_topics, wait_until
from schemas import headers as h
from schemas.access import ANYONE, Principal
from schemas.errors import InfaasError, OperatorError
from schemas.rows.removals import RegisteredNames, RemovalPlan, RemovalReport, RemovalRequest
from schemas.topics import (
    SHADOWS,
    VARIANTS,
    is_offline,
    query_topic,
    results_topic,
    task_topic,
    variant_group,
    variant_topics,
)
from store.errors import StoreBusy, StoreUnavailable
from store.leader import Leadership
from store.pool import DatabaseSession, Pool
from store.registry import list_variants
from store.removals import (
    count_held_partitions,
    delete_builds,
    delete_instances,
    delete_registered,
    lock_catalog,
    mark_removing,
)

log = logging.getLogger(__name__)

_LEAD: Final = "unregister"
_AGAIN_S: Final = 0.2
_MARK_ATTEMPTS: Final = 5
_STEPS: Final = 8
_CLIENT: Final = "infaas-unregister"
_LEFT_OUT: Final = frozenset({h.SENT_NS, h.LINGER_NS})
"""Headers that are dropped. Without a time of sending, the deadline counts by the broker's clock, as the selector wrote
it."""


async def unregister(
    request: RemovalRequest, pool: Pool, dsn: str, kafka: KafkaSettings, artifacts: ArtifactStore,
    exchange: ArtifactStore, sink: ProgressSink, principal: Principal = ANYONE,
) -> RemovalReport | None:  # fmt: skip
    """Unregister a name; return None if somebody else did so meanwhile. An interrupted call resumes when repeated.

    `exchange` holds files of builds. The rights of `principal` are checked again after waiting for another removal:
    meanwhile the name may have been removed, and registered by another tenant.

    Raises:
        NotFound: nothing has this name.
        Forbidden: a part belongs to another tenant.
        OperatorError: it is in use, or a service fails.
        StoreUnavailable: Postgres cannot be reached.
    """
    await join_system(pool, kafka)  # else the topics of another system would be deleted
    await plan_removal(pool, artifacts, request.name, principal)  # fails early if there is nothing to remove
    sink.step(0, _STEPS, f"{request.name}: waiting for another removal to end")
    refused: InfaasError | None = None
    report: RemovalReport | None = None
    async with Leadership(dsn, _LEAD) as lead:
        try:
            if await find_registered(pool, request.name, await read_sight(pool, principal)) is not None:
                report = await _Removal(request, pool, kafka, artifacts, exchange, sink, lead, principal).run()
        except InfaasError as error:  # raised after the context, which would wrap it in a group
            refused = error
    if refused is not None:
        raise refused
    return report


@dataclass
class _Removal:
    """Steps of one removal, while this process leads."""

    request: RemovalRequest
    pool: Pool
    kafka: KafkaSettings
    artifacts: ArtifactStore
    exchange: ArtifactStore
    sink: ProgressSink
    lead: Leadership
    principal: Principal
    done: int = 0

    async def run(self) -> RemovalReport:
        """Execute all steps; return a report of the removed names."""
        plan = await self._plan()
        check_unused(plan, force=self.request.force)
        self._next("marking")
        await self._mark(plan.names)
        plan = await self._plan()  # includes rows that were added before the mark
        names = plan.names
        try:
            self._next("workers answer queries in flight")
            await self._release(names)
            self._next("closing topics of variants")
            await close_topics(self.kafka, [t for t in plan.topics if t.startswith(VARIANTS)])
            self._next("moving queries back to the task")
            moved = await self._move(names)
            if names.task is not None:
                self._next("selectors refuse waiting queries")
                await drain_topics(self.kafka, task_topic(names.task), self.request.drain_timeout_s)
            await self._delete_topics(plan)
        except (KafkaError, TimeoutError) as error:
            raise OperatorError(f"a request to Kafka failed ({error!r}); run the command again to resume") from error
        self._next("deleting files and rows")
        await self._delete_files(names)
        await delete_registered(self.pool, names, plan.topics)
        self.sink.step(_STEPS, _STEPS, f"{plan.name}: removed")
        return RemovalReport(plan=plan, moved=moved)

    async def _plan(self) -> RemovalPlan:
        return await plan_removal(self.pool, self.artifacts, self.request.name, self.principal)

    def _next(self, text: str) -> None:
        if self.lead.lost.is_set():
            raise StoreUnavailable("Postgres was unavailable for a moment; run the command again to resume")
        self.sink.step(self.done, _STEPS, f"{self.request.name}: {text}")
        self.done += 1

    async def _mark(self, names: RegisteredNames) -> None:
        for attempt in range(_MARK_ATTEMPTS):
            try:
                async with self.pool.transaction() as session:
                    await mark_removing(session, names)
                    await check_serves_not(session, names)  # it may have been rolled out since the plan was made
                    await self._check_owners(session)
                return
            except StoreBusy:  # a registration locks the same rows in another order
                if attempt == _MARK_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def _check_owners(self, session: DatabaseSession) -> None:
        """Raise `Forbidden` if other tenants have registered models of the task since the plan was made."""
        sight = await read_sight(session, self.principal)
        found = await find_registered(session, self.request.name, sight)
        if found is not None:
            await check_may_remove(session, found[0], sight)

    async def _release(self, names: RegisteredNames) -> None:
        async def released() -> bool:
            # Repeat it: an autoscaler that has not yet read the change may want an instance again.
            await delete_instances(self.pool, names.variants)
            return not await count_held_partitions(self.pool, names.variants)

        otherwise = "workers still hold its partitions: `infaas scale status` shows which"
        await wait_until(released, self.request.drain_timeout_s, otherwise)

    async def _move(self, names: RegisteredNames) -> int:
        there = {partition.topic for partition in await partitions_of(self.kafka, topics_of(names))}
        variants = await list_variants(self.pool, names=names.variants)
        return sum(
            [await move_leftovers(self.kafka, v.name, v.task) for v in variants if there & {*variant_topics(v.name)}]
        )

    async def _delete_topics(self, plan: RemovalPlan) -> None:
        self._next("deleting topics")
        results = [results_topic(plan.names.task)] if plan.names.task is not None else []
        await self._delete([topic for topic in plan.topics if topic not in results])
        there = await partitions_of(self.kafka, results)
        if there:
            self._next(f"results can be read for another {self.request.results_grace_s:g} s")
            await asyncio.sleep(self.request.results_grace_s)
            await self._delete(results)

    async def _delete(self, topics: list[str]) -> None:
        await delete_topics(self.kafka, topics)
        await until_gone(self.kafka, topics)

    async def _delete_files(self, names: RegisteredNames) -> None:
        async with self.pool.transaction() as session:
            await lock_catalog(session)  # no file can be registered between the check and the deletion
            unused = await unused_files(session, names, self.artifacts)
            for sha256 in unused:
                await asyncio.to_thread(self.artifacts.discard, sha256)
            for sha256 in await delete_builds(session, names, unused):
                await asyncio.to_thread(self.exchange.discard, sha256)


async def move_leftovers(kafka: KafkaSettings, variant: str, task: str) -> int:
    """Send the queries that wait for a closed variant to the topics of its task; return their number.

    Raises:
        KafkaError: a request to Kafka failed; queries that were moved and not committed are moved again.
    """
    moved, group, topics = 0, variant_group(variant), list(variant_topics(variant))
    async with LagReader(kafka) as reader:
        reading = await reader.read_until_known({group: topics})
    async with Producer(kafka, _CLIENT) as producer:
        for topic in topics:
            ends = {line.partition: line.end for line in reading.partition_lags() if line.topic == topic and line.lag}
            if not ends:
                continue
            target = query_topic(task, offline=is_offline(topic))
            async with Consumer(kafka, _CLIENT, group=group) as consumer:
                await consumer.assign(topic, ends)
                while any((consumer.position(number) or 0) < (end or 0) for number, end in ends.items()):
                    async with asyncio.timeout(kafka.request_timeout_ms / 1000):
                        records = await consumer.poll()
                    queries = [record for record in records if (h.REPLY_TO, SHADOWS.encode()) not in record.headers]
                    await _send(producer, target, queries)
                    for record in records:
                        consumer.done(record)
                    moved += len(queries)
    return moved


async def _send(producer: Producer, topic: str, records: list[Record]) -> None:
    sends = [
        await producer.send(
            topic,
            record.value,
            key=record.key,
            headers=[(name, value or b"") for name, value in record.headers if name not in _LEFT_OUT],
        )
        for record in records
    ]
    await asyncio.gather(*sends)
