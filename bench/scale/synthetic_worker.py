"""Workers without models, many in one process: `python -m bench.scale.synthetic_worker FIRST COUNT FOLDER`.

A synthetic worker is the product's worker, with the same connections, leases, statuses, consumers and answers. Four
parts differ: a batch takes its predicted time without computing, so slots need no threads; loading takes no time; the
workers of a process share the catalog, the reply streams and the artifacts, which they do not use; and all instances
read their offline queries from one empty topic, because a broker keeps a file open for each partition.
"""

import argparse
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from unittest.mock import AsyncMock, patch

import numpy as np
import uvloop
from numpy.typing import NDArray

from broker.delivery.in_flight import RecordMemory
from broker.fetch.read_connection import ReadConnection
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from process.backoff import Backoff
from process.collection import tune_gc
from process.logs import configure_logging
from process.pauses import retry_until_reachable
from registry.artifacts import ArtifactStore
from runtimes.protocol import Tensors
from schemas import topics
from schemas.rows.cluster import InstanceRow
from store.catalog import CatalogWatcher
from store.errors import StoreUnavailable
from store.placement import register_worker
from store.settings import StoreSettings
from store.shared_connection import SharedConnection
from workers.context import WorkerContext
from workers.instance_controller import InstanceController
from workers.lease import Leases
from workers.placement import PlacementFollower
from workers.replacement import Replacement
from workers.service import open_committers, worker_row
from workers.serving.loading import DeviceMemory
from workers.serving.model import LoadedModel, ServableModel
from workers.settings import WorkerSettings
from workers.slots.crash_journal import CrashJournal
from workers.slots.executor import Batch, BatchExecutor
from workers.status import StatusReporter

OFFLINE_TOPIC: Final = "infaas.synthetic.offline"
"""Empty topic that all instances read for offline queries; it has as many partitions as the topic of a variant."""
SLOTS: Final = 2
MEMORY_BYTES: Final = 16 << 30
_STARTING: Final = 10
"""Number of workers of a process that start at the same time."""
_BACKOFF: Final = Backoff(first_s=0.5, longest_s=5.0, jitter=0.5)


class _Zeros:
    """Session of a model whose outputs are zeros."""

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        return {name: np.zeros_like(array) for name, array in inputs.items()}

    def close(self) -> None:
        pass


class _SleepingExecutor(BatchExecutor):
    """Executor whose batches take their predicted time, without a thread."""

    def _begin(self, *, here: bool = False) -> None:
        loop = asyncio.get_running_loop()
        with self.lock:
            while (started := self._schedule.begin(time.monotonic())) is not None:
                loop.call_later(started[1].predicted_s, self._end, *started)

    def _end(self, slot: int, batch: Batch) -> None:
        batch.compute(slot)
        with self.lock:
            self._schedule.end(slot, time.monotonic())
        self._begin()


class _SyntheticController(InstanceController):
    """Controller of an instance that loads nothing."""

    async def _load_once(self, row: InstanceRow) -> tuple[ServableModel, LoadedModel]:
        await self._profile.read()
        return self._profile.model(row.max_batch), LoadedModel(_Zeros(), {}, ExitStack(), may_loop=False)


class _Shared(NamedTuple):
    """Parts that the workers of a process share."""

    kafka: KafkaSettings
    dsn: str
    catalog: CatalogWatcher
    streams: ReplyStreamSender
    artifacts: ArtifactStore
    loader: ThreadPoolExecutor


def worker_name(number: int) -> str:
    """Return the name of a synthetic worker."""
    return f"cpu-synthetic-{number}"


async def _work(number: int, folder: Path, shared: _Shared, ready: asyncio.Event) -> None:
    """Run a worker until cancelled; sets `ready` once it is registered."""
    settings = WorkerSettings(
        name=worker_name(number), home=folder, cores=SLOTS, threads=1, memory_bytes=MEMORY_BYTES, builds=False
    )
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(SharedConnection(shared.dsn))
        producer = await stack.enter_async_context(Producer(shared.kafka, settings.worker))
        await producer.prefetch_metadata([topics.STATUS, topics.DEAD_LETTERS])
        online = await stack.enter_async_context(ReadConnection(shared.kafka, settings.worker))
        offline = await stack.enter_async_context(ReadConnection(shared.kafka, f"{settings.worker}-offline"))
        journal = stack.enter_context(CrashJournal(settings.journal_file, SLOTS, settings.max_crashes))
        epoch = await retry_until_reachable(
            partial(register_worker, pool, worker_row(settings)), StoreUnavailable, _BACKOFF
        )
        leases = Leases(
            pool, settings.worker, epoch, settings.lease_ttl_s, lambda name, lost: placement.lose_leases(name, lost)
        )
        context = WorkerContext(
            settings=settings,
            kafka=shared.kafka,
            pool=pool,
            catalog=shared.catalog,
            online=online,
            offline=offline,
            record_memory=RecordMemory(shared.kafka.max_in_flight_bytes),
            producer=producer,
            streams=shared.streams,
            artifacts=shared.artifacts,
            executor=_SleepingExecutor(SLOTS, _fail, spare=0),
            journal=journal,
            leases=leases,
            committers=await stack.enter_async_context(open_committers(settings, shared.kafka, online, leases)),
            loader=shared.loader,
            memory=DeviceMemory(settings),
            replacement=Replacement(),
        )
        placement = PlacementFollower(pool, settings.worker, lambda row: _SyntheticController(row, context))
        reporter = StatusReporter(context, epoch, lambda: placement.controllers)
        ready.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leases.keep_renewing(settings.lease_renew_s), name="leases")
            tasks.create_task(reporter.run(), name="status")
            tasks.create_task(placement.run(asyncio.Event()), name="placement")


def _offline_topic(_variant: str) -> str:
    return OFFLINE_TOPIC


def _fail(error: BaseException) -> None:
    raise error


async def _run(first: int, count: int, folder: Path) -> None:
    kafka, dsn = KafkaSettings(), StoreSettings().dsn
    async with AsyncExitStack() as stack:
        catalog = await stack.enter_async_context(CatalogWatcher(dsn))
        sender = ReplyStreamSender(kafka.reply_stream, kafka_encrypted=kafka.encrypted)
        streams = await stack.enter_async_context(sender)
        loader = stack.enter_context(ThreadPoolExecutor(1))
        shared = _Shared(kafka, dsn, catalog, streams, ArtifactStore(folder), loader)
        # The topics exist; a check for each of thousands of instances would take minutes.
        stack.enter_context(patch("workers.instance_controller.ensure_variant_topics", AsyncMock()))
        stack.enter_context(patch("workers.serving.variant_instance.offline_variant_topic", _offline_topic))
        tune_gc()
        async with asyncio.TaskGroup() as tasks:
            starting: list[asyncio.Event] = []
            for number in range(first, first + count):
                starting.append(ready := asyncio.Event())
                tasks.create_task(_work(number, folder, shared, ready), name=worker_name(number))
                if len(starting) >= _STARTING:
                    await starting[-_STARTING].wait()


def main() -> None:
    """Run the workers until SIGTERM ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    wanted = parser.parse_args()
    configure_logging("WARNING")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(wanted.first, wanted.count, wanted.folder))


if __name__ == "__main__":
    main()
