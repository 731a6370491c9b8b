"""The jobs service: runs sender, result writer, cleanup and notifier concurrently.

Instances of the service share the result topic as a consumer group, and the rows by locks. If Postgres is unavailable,
running queries continue and results wait in Kafka. If Kafka is unavailable, jobs wait in Postgres.
"""

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack
from typing import Final

from broker.delivery.consumer import Consumer
from broker.kafka.cluster import KafkaReachability
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from broker.producing.producer import Producer
from gateway.jobs.cleanup import JobCleanup
from gateway.jobs.delivery import JobSender, ResultWriter
from gateway.jobs.notification import CompletionNotifier, WebhookClient
from gateway.jobs.settings import JobsSettings
from process.health import health_server
from process.signing import SigningSettings
from schemas.topics import JOB_RESULTS, JOBS_GROUP
from store.migrate import require_current
from store.pool import open_pool
from store.shared_connection import JOBS, ChangeListener

log = logging.getLogger(__name__)

_CLIENT: Final = f"infaas-jobs-{socket.gethostname()}-{os.getpid()}"


async def serve(settings: JobsSettings, kafka: KafkaSettings, dsn: str, stop: asyncio.Event) -> None:
    """Run a jobs service until `stop` is set; another instance, or this one after its restart, continues its work.

    Raises:
        OperatorError: Kafka cannot be reached, or the database has another schema version.
        StoreUnavailable: Postgres cannot be reached at the start.
    """
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn))
        await require_current(pool)
        await ensure_system_topics(kafka)
        producer = await stack.enter_async_context(Producer(kafka, _CLIENT))
        consumer = await stack.enter_async_context(
            Consumer(kafka, _CLIENT, group=JOBS_GROUP, max_in_flight=settings.max_in_flight)
        )
        webhooks = await stack.enter_async_context(
            WebhookClient(settings.networks, settings.webhook_timeout_s, settings.webhook_concurrency)
        )
        changes = await stack.enter_async_context(ChangeListener(dsn, [JOBS]))
        sender = JobSender(pool, producer, settings.batch, settings.interval_s, SigningSettings().read())
        notifier = CompletionNotifier(pool, producer, webhooks, settings)
        results = ResultWriter(pool, consumer, settings.max_attempts, settings.retry_pause_s, notifier.wake)
        cleanup = JobCleanup(pool, settings, notifier.wake)
        await consumer.subscribe([JOB_RESULTS])
        reachability = KafkaReachability(kafka)

        async def problem() -> str:
            return await reachability.problem() or consumer.problem

        await stack.enter_async_context(health_server(settings.metrics_host, settings.metrics_port, problem))
        log.info("processing jobs")
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(_follow(changes, sender), name="changes")]
            loops += [tasks.create_task(part.run()) for part in (sender, results, cleanup, notifier)]
            await stop.wait()
            for loop in loops:
                loop.cancel()


async def _follow(changes: ChangeListener, sender: JobSender) -> None:
    async for _channel in changes:
        sender.wake()
