"""Sender of batches: one request per node with all partitions that are ready, and one batch in progress per partition.

    add -> queue -> ready at its leader -> request -> answer -> verdict -> the next batch
                 -> no producer id yet: until there is one
                 -> no leader known: until the metadata names one
                 -> failed: after a pause

Rules.
* A record is sent in the loop's next turn, or after the answer to the node's previous request. This makes batches: the
  more there is to send, the more goes into each request. Only a record that may linger waits longer: until its time is
  up, or until a record that may not linger is sent to the same node.
* A partition that cannot be written to waits by itself. No request and no other partition waits for it, nor for one
  that is written slowly (`node_connections`).
* Each record ends in time, whatever Kafka does: a tick fails the records whose deadline has passed, wherever they are.
* A queue is in exactly one place: idle, ready at a node, in a request, or waiting. Only `_route` decides which.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any, Final, TypeAlias

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from broker.kafka.types import REFUSED_BY_TOPIC, TopicClosed
from broker.producing.node_connections import NodeConnections, Opening
from broker.producing.partition_queue import ANONYMOUS, PartitionQueue, ProducerIdentity, RecordBatch
from broker.producing.produce_api import (
    PartitionAnswer,
    Produce,
    Verdict,
    error_of,
    judge,
    may_be_written,
    needs_metadata,
    new_identity,
    read_produced,
)
from broker.producing.records import Ack, InFlightLimit, PendingRecord
from process.backoff import Backoff
from process.outages import FailureLog
from schemas.topics import is_work

log = logging.getLogger(__name__)

REQUEST_BYTES: Final = 1024 * 1024
"""Bytes after which no further batch is added to a request."""
_BACKOFF: Final = Backoff(first_s=0.1, longest_s=1.0)
"""Pauses before a batch is sent again."""
_LOOK_S: Final = 0.1
"""Seconds between two requests for a producer id or for metadata that Kafka did not have."""
_ASK_S: Final = 2.0
"""Seconds after which another broker is asked for a producer id."""
_STARTING_S: Final = 3.0
"""Seconds for which a starting broker may have no producer ids, because it still loads its transactions."""
_TICKS: Final = 20
"""Number of checks for late records within the time that a record has."""
_LONGEST_TICK_S: Final = 0.25
_SAY_S: Final = 1.0
"""Seconds between two log lines about batches that were not written."""

OnAppend: TypeAlias = Callable[[int, float, float, float], None]
"""Callback with the node, the monotonic times (s) at which a batch was sent and its answer came, and its append time
(ms, by the broker's clock)."""


GAP_S: Final = 5.0
"""Seconds without a written batch after which Kafka no longer counts as acknowledging."""


class _Node:
    """Broker, and the queues that are ready to be sent to it."""

    __slots__ = ("connections", "due", "flush", "id")

    def __init__(self, node_id: int) -> None:
        self.id = node_id
        self.connections = NodeConnections()
        self.due = inf
        """Event-loop time until which all ready queues may linger."""
        self.flush: asyncio.Handle | None = None
        """Next flush, if one is scheduled."""


class BatchSender:
    """Sender of the records in partition queues, over one started client, within one event loop."""

    def __init__(self, client: AIOKafkaClient, limit: InFlightLimit, *, compression: int, timeout_s: float) -> None:
        self.on_append: OnAppend | None = None
        self.idempotent = True
        """True if the broker assigns producer ids; set before the first record is added."""
        self._client = client
        self._limit = limit
        self._compression = compression
        self._timeout_s = timeout_s
        self._fresh: ProducerIdentity | None = None
        """Identity for queues that have none. A queue that had it and lost it must not get it again."""
        self._nodes: dict[int, _Node] = {}
        self._busy: dict[PartitionQueue, None] = {}
        self._nameless: dict[PartitionQueue, None] = {}
        self._leaderless: dict[PartitionQueue, None] = {}
        self._looking = self._ticking = False
        self._written_since_s = self._written_s = -inf
        """Event-loop times: since when batches have been written without a long gap, and when the last one was."""
        self._say_from_s = -inf
        """Monotonic time from which on failures are logged again."""
        self._tasks: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]] = set()
        self._identifying: asyncio.Task[None] | None = None
        self._identities = FailureLog("getting a producer id", "no record is written", _STARTING_S)
        self._loop = asyncio.get_running_loop()

    def use_tasks(self, tasks: asyncio.TaskGroup) -> None:
        """Create all later tasks in `tasks`."""
        self._tasks = tasks

    def add(self, queue: PartitionQueue, record: PendingRecord, linger_until: float = 0.0) -> None:
        """Send a record that the limit has admitted, after all earlier records of its partition.

        Until `linger_until`, by the event loop's time, the record may linger for others to go with it.
        """
        queue.wait(record, linger_until)
        if not queue.busy:
            queue.busy = True
            self._busy[queue] = None
            self._route(queue)
            if not self._ticking:
                self._tick_later()
        elif (node := self._nodes.get(queue.leader)) is not None and queue in node.connections:
            self._flush_by(node, queue.due)

    def acknowledging_s(self) -> float:
        """Return for how many seconds Kafka has acknowledged batches without a long gap; 0 if it does not now."""
        return self._written_s - self._written_since_s if self._loop.time() - self._written_s < GAP_S else 0.0

    def linger_no_more(self) -> None:
        """Send the records that linger now."""
        for queue in self._busy:
            queue.linger_until = 0.0
        for node in self._nodes.values():
            if node.connections:
                self._flush_by(node, 0.0)

    def metadata_changed(self) -> None:
        """Send the records that waited for a leader, if there is one now."""
        waited = list(self._leaderless)
        self._leaderless.clear()
        for queue in waited:
            self._route(queue)

    def retire(self, queue: PartitionQueue) -> None:
        """Note that a queue is dropped; its successor must not continue with its identity."""
        self._use_no_more(queue.forget_identity())

    def settle(self, record: PendingRecord, outcome: Ack | KafkaError) -> None:
        """End a record, unless it has ended."""
        self._limit.settle(record, outcome)

    def close(self, error: KafkaError) -> None:
        """End all records that have not ended, and all tasks."""
        for task in self._running:
            task.cancel()
        for queue in list(self._busy):
            for record in (queue.batch.records if queue.batch else []) + list(queue.waiting):
                self.settle(record, error)
            queue.waiting.clear()

    # -- routing of queues ---------------------------------------------------------------------------------------------

    def _route(self, queue: PartitionQueue) -> None:
        self._use_no_more(queue.drop_ended())
        if not queue.has_work:
            queue.busy = False
            del self._busy[queue]
        elif queue.identity is None and not self._identify(queue):
            self._nameless[queue] = None
        elif queue.leader < 0:
            self._leaderless[queue] = None
            self._look_later()
        else:
            node = self._nodes.get(queue.leader) or self._nodes.setdefault(queue.leader, _Node(queue.leader))
            node.connections.add(queue)
            self._flush_by(node, queue.due)

    def _identify(self, queue: PartitionQueue) -> bool:
        queue.identity = self._fresh if self.idempotent else ANONYMOUS
        if queue.identity is None and (self._identifying is None or self._identifying.done()):
            self._identifying = self._start(self._get_identity(), "producer id")
        return queue.identity is not None

    async def _get_identity(self) -> None:
        while self._nameless:
            try:
                async with asyncio.timeout(_ASK_S):
                    self._fresh = await new_identity(self._client)
            except (KafkaError, OSError, KeyError) as error:  # a TimeoutError is an OSError; KeyError: see `_request`
                self._identities.failed(error)
                await asyncio.sleep(_LOOK_S)
            else:
                self._identities.recovered()
            waited = list(self._nameless)
            self._nameless.clear()
            for queue in waited:  # without an identity they wait again, or end if their records are late
                self._route(queue)

    def _use_no_more(self, identity: ProducerIdentity | None) -> None:
        if identity is not None and identity == self._fresh:
            self._fresh = None

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self._client.force_metadata_update()
            self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        self.metadata_changed()

    # -- requests ------------------------------------------------------------------------------------------------------

    def _flush_by(self, node: _Node, due: float) -> None:
        if due < node.due:
            node.due = due
            self._plan_flush(node)

    def _plan_flush(self, node: _Node) -> None:
        if node.flush is not None:
            node.flush.cancel()
        loop, now_s = self._loop, self._loop.time()
        at_s = max(node.due, node.connections.opens_s(now_s))
        if at_s <= now_s:
            node.flush = loop.call_soon(self._flush, node)
        else:  # if it has no time, the next answer schedules it
            node.flush = loop.call_at(at_s, self._flush, node) if at_s < inf else None

    def _flush(self, node: _Node) -> None:
        node.flush, node.due, now_s = None, inf, self._loop.time()
        while (opening := node.connections.opening(now_s)) is not None:
            batches = self._collect(node, opening)
            if batches:
                node.connections.begin(opening.connection, now_s, slow=opening.slow)
                self._start(self._request(node, opening.connection, batches), f"produce to {node.id}")
        if node.connections:  # no connection was free
            node.due = 0.0
            self._plan_flush(node)

    def _collect(self, node: _Node, opening: Opening) -> list[tuple[PartitionQueue, RecordBatch]]:
        batches: list[tuple[PartitionQueue, RecordBatch]] = []
        size, ready = 0, opening.queues
        while ready and size < REQUEST_BYTES and len(batches) < opening.most:
            queue = next(iter(ready))
            del ready[queue]
            self._use_no_more(queue.drop_ended())
            sendable = queue.leader == node.id and queue.identity is not None
            batch = queue.take(self._compression) if sendable else None
            if batch is None:
                self._route(queue)
            else:
                size += len(batch.data)
                batches.append((queue, batch))
        return batches

    async def _request(self, node: _Node, number: int, batches: Sequence[tuple[PartitionQueue, RecordBatch]]) -> None:
        sent = time.monotonic()
        answers: dict[tuple[str, int], PartitionAnswer] = {}
        problem: KafkaError = KafkaConnectionError("the answer did not name the partition")
        try:
            request = Produce.of(batches, int(self._timeout_s * 1000))
            # aiokafka keeps a connection for each group: 0 is for all other requests, 1 for coordinators.
            group: Any = number + 1 if number else 0
            answer = await self._client.send(node.id, request, group=group)
            answers = dict(read_produced(answer))
        except KafkaError as error:
            problem = error
        except (OSError, KeyError) as error:  # KeyError: aiokafka's, if another request has closed the connection
            problem = KafkaConnectionError(repr(error))
        finally:
            node.connections.end(number, self._loop.time(), [queue for queue, _ in batches])
            for queue, _ in batches:
                queue.in_request = False
        received = time.monotonic()
        failed = 0
        failing: PartitionQueue | None = None
        for queue, batch in batches:
            found = answers.get((queue.topic, queue.number))
            if batch.first_sent_s is None:  # else that attempt may have appended it
                batch.first_sent_s = sent
            if found and found.append_ms >= 0 and self.on_append is not None:
                self.on_append(node.id, batch.first_sent_s, received, found.append_ms)
            error = problem if found is None else error_of(found.code)
            if error is not None:
                failed += 1
                failing = queue
            self._conclude(queue, batch, found, error)
        if failed < len(batches):
            now_s = self._loop.time()
            if now_s - self._written_s >= GAP_S:
                self._written_since_s = now_s
            self._written_s = now_s
        if failing is not None and received >= self._say_from_s:
            self._say_from_s = received + _SAY_S
            log.warning(
                "%d of %d batches were not written, e.g. %s: %r", failed, len(batches), failing, failing.problem
            )
        if node.connections:
            self._plan_flush(node)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _conclude(
        self, queue: PartitionQueue, batch: RecordBatch, answer: PartitionAnswer | None, error: KafkaError | None
    ) -> None:
        verdict = judge(error)
        if verdict is Verdict.WRITTEN:
            queue.written()
            self._acknowledge(queue, batch, answer)
        elif verdict is Verdict.AGAIN:
            batch.maybe_written |= may_be_written(error)
            self._pause(queue, batch, error)
            return
        else:
            queue.problem = error
            self._give_back(queue, batch, verdict, error)
        self._route(queue)

    def _acknowledge(self, queue: PartitionQueue, batch: RecordBatch, answer: PartitionAnswer | None) -> None:
        offset, append_ms = (-1, -1) if answer is None else (answer.offset, answer.append_ms)
        self._limit.acknowledge(batch.records, Ack(queue.topic, queue.number, offset, append_ms))

    def _pause(self, queue: PartitionQueue, batch: RecordBatch, error: KafkaError | None) -> None:
        queue.problem = error
        if needs_metadata(error):
            self._client.force_metadata_update()
        batch.attempts += 1
        self._loop.call_later(_BACKOFF.pause_s(batch.attempts), self._route, queue)

    def _give_back(self, queue: PartitionQueue, batch: RecordBatch, verdict: Verdict, error: KafkaError | None) -> None:
        """Send the records of a refused batch in another way, or fail them if there is none."""
        assert error is not None
        if batch.maybe_written or not (verdict is Verdict.SPLIT or isinstance(error, REFUSED_BY_TOPIC)):
            self._use_no_more(queue.forget_identity())
        if verdict is Verdict.REFUSED or (verdict is Verdict.SPLIT and len(batch.records) == 1):
            if verdict is Verdict.SPLIT and is_work(queue.topic):  # its limit admits all that a producer sends
                error = TopicClosed(f"{queue.topic} is closed: it will be deleted")
            for record in batch.records:
                self.settle(record, error)
        elif verdict is Verdict.SPLIT:
            queue.split()
        else:
            log.warning("%s/%d: the producer id is replaced: %r", queue.topic, queue.number, error)
        queue.put_back()

    # -- time ----------------------------------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        self._ticking = True
        self._loop.call_later(min(self._timeout_s / _TICKS, _LONGEST_TICK_S), self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        for queue in list(self._busy):
            for record in queue.expired(now):
                self.settle(record, _too_late(queue))
        self._ticking = False
        if self._busy:
            self._tick_later()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


def _too_late(queue: PartitionQueue) -> KafkaError:
    if isinstance(queue.problem, UnknownTopicOrPartitionError):
        return queue.problem
    if queue.problem is not None:
        why = repr(queue.problem)
    else:
        why = "it has no leader" if queue.leader < 0 else "Kafka did not answer"
    return KafkaTimeoutError(f"{queue.topic}/{queue.number} was not written in time: {why}")
