"""Resources that the parts of a worker share, and the trigger of its next status."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field

from broker.delivery.committer import SharedCommitters
from broker.delivery.in_flight import RecordMemory
from broker.fetch.read_connection import ReadConnection
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from process.pauses import wait_within
from process.tracing.tracer import Tracer
from registry.artifacts import ArtifactStore
from store.catalog import CatalogWatcher
from store.pool import Pool
from workers.lease import Leases
from workers.replacement import Replacement
from workers.serving.loading import DeviceMemory
from workers.serving.metrics import AnswerMeter
from workers.settings import WorkerSettings
from workers.slots.busy_time import BusyTime
from workers.slots.crash_journal import CrashJournal
from workers.slots.executor import BatchExecutor


class StatusTrigger:
    """Trigger that the publishing task waits for, and that every change of the published state sets."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()
        self._changed = asyncio.Event()

    def work(self) -> None:
        """Note that queries were read or answered."""
        self._stirred.set()

    def change(self) -> None:
        """Note a change that other services act on, e.g. the state of an instance."""
        self._stirred.set()
        self._changed.set()

    def begin(self) -> None:
        """Begin a status: later changes belong to the next one."""
        self._stirred.clear()
        self._changed.clear()

    async def wait(self, interval_s: float, idle_interval_s: float, *, quiet: bool) -> None:
        """Wait until the next status is due; `quiet`: see `workers.status.is_quiet`."""
        if quiet:
            await wait_within(idle_interval_s - interval_s, self._stirred)
        await wait_within(interval_s, self._changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Resources that all instance controllers of a worker share."""

    settings: WorkerSettings
    kafka: KafkaSettings
    pool: Pool
    catalog: CatalogWatcher
    online: ReadConnection
    """Connection that reads the online queries of all instances; offline queries have another."""
    offline: ReadConnection
    committers: SharedCommitters
    record_memory: RecordMemory
    """Memory of the queries that all instances have read and not answered."""
    producer: Producer
    streams: ReplyStreamSender
    artifacts: ArtifactStore
    executor: BatchExecutor
    generating: BusyTime = field(default_factory=BusyTime)
    """Slot seconds in which generative instances made answers, in threads of their own."""
    journal: CrashJournal
    leases: Leases
    answers: AnswerMeter = field(default_factory=AnswerMeter)
    loader: Executor
    """Thread that loads models one at a time, so that each load knows the memory left."""
    memory: DeviceMemory
    replacement: Replacement
    trigger: StatusTrigger = field(default_factory=StatusTrigger)
    """Trigger of the next status record."""
    tracer: Tracer | None = None
    """None: traces are off."""
