"""The registrar as a service: claims registrations, cleans up, and releases unfinished claims when it stops.

Each registrar has a working folder, with one subfolder for each registration. A killed registrar leaves its folder
behind; the next registrar that starts in the same home deletes it. A lock file shows that a folder is in use: the
kernel releases the lock when its process ends.

Unused uploads, old registrations and old files of builds are deleted at intervals. Files of builds are deleted here
because no later build may come that would delete them. Every registrar cleans up; a second one finds nothing left.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from prometheus_client import Counter

from broker.kafka.cluster import KafkaReachability
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from process.health import health_server
from process.outages import FailureLog
from process.sandbox import has_sandbox
from registry.artifact_settings import open_exchange, open_uploads
from registry.artifacts import ArtifactStore
from registry.service.claimer import RegistrationClaimer
from registry.service.settings import RegistrarSettings
from registry.system_identity import run_service_command
from schemas.errors import OperatorError
from schemas.rows.registrations import BUILDS_KEPT_S
from store.errors import StoreUnavailable
from store.migrate import require_current
from store.pool import Pool, open_pool
from store.registrations import forget_registrations
from store.shared_connection import REGISTRATIONS, ChangeListener
from store.uploads import sweep_uploads

_LOCK: Final = "lock"
_DELETED: Final = Counter("infaas_registrar_uploads_swept_total", "Expired uploads that were deleted")
log = logging.getLogger(__name__)


@contextmanager
def working_folder(home: Path) -> Generator[Path]:
    """Yield a new folder for this process and delete it afterwards; blocks."""
    root = home / "registrations"
    folder = root / uuid4().hex
    with _alone(root):
        folder.mkdir()
        handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX)
        _remove_abandoned(root, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextmanager
def _alone(root: Path) -> Generator[None]:
    """Hold the lock on `root`, so that no other process creates a folder or deletes one that is not locked yet."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_abandoned(root: Path, own: Path) -> None:
    for folder in root.iterdir():
        if folder != own and not _is_used(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_used(folder: Path) -> bool:
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False  # its process was killed before it created the lock, or has deleted the folder
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class RegistrationCleanup:
    """Deletes expired uploads, registrations and files of builds at intervals."""

    def __init__(
        self, pool: Pool, uploads: ArtifactStore, exchange: ArtifactStore, settings: RegistrarSettings
    ) -> None:
        self._pool = pool
        self._uploads = uploads
        self._exchange = exchange
        self._settings = settings
        self._failures = FailureLog("deleting expired uploads", "uploads are kept")

    async def run(self) -> None:
        """Clean up at intervals until cancelled."""
        while True:
            try:
                await self.sweep()
            except (StoreUnavailable, OperatorError, OSError) as error:
                self._failures.failed(error)
            else:
                self._failures.recovered()
            await asyncio.sleep(self._settings.tidy_interval_s)

    async def sweep(self) -> None:
        """Delete everything whose retention time has passed."""
        await forget_registrations(self._pool, self._settings.retention_s)
        swept = await sweep_uploads(self._pool, self._settings.upload_retention_s, self._discard)
        _DELETED.inc(swept)
        await asyncio.to_thread(self._exchange.discard_older, BUILDS_KEPT_S)

    async def _discard(self, sha256: str) -> None:
        await asyncio.to_thread(self._uploads.discard, sha256)


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
        claimer = RegistrationClaimer(pool, settings, folder, f"{socket.gethostname()}-{os.getpid()}")
        place = settings.artifacts, settings.home.absolute()
        uploads, exchange = await asyncio.to_thread(lambda: (open_uploads(*place), open_exchange(*place)))
        cleanup = RegistrationCleanup(pool, uploads, exchange, settings)
        problem = KafkaReachability(kafka).problem
        await stack.enter_async_context(health_server(settings.metrics_host, settings.metrics_port, problem))
        log.info("executing registrations")
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(_follow(changes, claimer), name="changes")]
            loops += [tasks.create_task(part.run()) for part in (claimer, cleanup)]
            await stop.wait()
            for loop in loops:
                loop.cancel()


async def _follow(changes: ChangeListener, claimer: RegistrationClaimer) -> None:
    async for _channel in changes:
        claimer.wake()


def main() -> int:
    """Run the service, or with `--check` only check its dependencies; return the exit code."""
    return run_service_command(
        "registry.service", RegistrarSettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop)
    )
