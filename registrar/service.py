"""The registrar as a service: claims registrations, cleans up, and releases unfinished claims when it stops."""

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack

from broker.reachability import KafkaReachability
from broker.settings import KafkaSettings
from broker.topics import ensure_system_topics
from process.health_server import health_server
from process.sandbox import has_sandbox
from registrar.claimer import RegistrationClaimer
from registrar.settings import RegistrarSettings
from registrar.sweeper import RegistrationCleanup
from registrar.working_folders import working_folder
from registry.artifact_settings import open_exchange, open_uploads
from store.change_listener import REGISTRATIONS, ChangeListener
from store.pool import open_pool
from store.version import require_current

log = logging.getLogger(__name__)


async def serve(settings: RegistrarSettings, kafka: KafkaSettings, dsn: str, stop: asyncio.Event) -> None:
    """Run a registrar until `stop` is set.

    Raises:
        OperatorError: Kafka cannot be reached, the database has another version, or a sandbox for steps is required and
            not available.
        StoreUnavailable: Postgres cannot be reached at the start.
    """
    await asyncio.to_thread(has_sandbox)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(dsn, min_size=0))
        await require_current(pool)
        await ensure_system_topics(kafka)
        folder = stack.enter_context(working_folder(settings.home.absolute()))
        changes = await stack.enter_async_context(ChangeListener(dsn, [REGISTRATIONS]))
        desk = RegistrationClaimer(pool, settings, folder, f"{socket.gethostname()}-{os.getpid()}")
        place = settings.artifacts, settings.home.absolute()
        uploads, exchange = await asyncio.to_thread(lambda: (open_uploads(*place), open_exchange(*place)))
        sweeper = RegistrationCleanup(pool, uploads, exchange, settings)
        problem = KafkaReachability(kafka).problem
        await stack.enter_async_context(health_server(settings.metrics_host, settings.metrics_port, problem))
        log.info("executing registrations")
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(_follow(changes, desk), name="changes")]
            loops += [tasks.create_task(part.run()) for part in (desk, sweeper)]
            await stop.wait()
            for loop in loops:
                loop.cancel()


async def _follow(changes: ChangeListener, desk: RegistrationClaimer) -> None:
    async for _channel in changes:
        desk.wake()
