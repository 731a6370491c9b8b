"""`infaas record`: the arrivals and needs of the real system's queries as a trace file, without their payloads.

Rules.
* A query arrives when its client sent it, if that time is credible (`schemas.query`).
* Every online record is an arrival, also one that repeats an id. An offline query is one arrival, however often
  selectors move it: to the offline topic, to its end, or to a lane.
* A moved record counts for its query only if the recording reaches back to the begin of the log. Otherwise the query
  may have arrived before the recording.
"""

import asyncio
import math
import signal
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import numpy as np
import typer

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.types import KafkaError, Record
from broker.topic_logs import partition_ends, topic_names
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_kafka
from infaas.cli.moments import parse_duration, parse_moment
from infaas.cli.output import duration, err, show_json
from schemas import headers as h
from schemas.cloudevents import unwrap
from schemas.errors import InvalidRequest, OperatorError
from schemas.headers import as_text
from schemas.query import ROUNDING_MS, Mode, Query, parse_query
from schemas.query_names import check_headers
from schemas.topics import INGRESS, LANES, TASKS, is_offline, task_of, tenant_of
from simulator.trace import QueryKind, Trace, write_trace
from simulator.trace_columns import check_target

_CLIENT: Final = "infaas-record"


class _Offline(NamedTuple):
    """Offline query in a recording."""

    sent_ms: float
    kind: int
    is_original: bool
    """True if a record of its client was read, not only records of selectors."""


class Recording:
    """Queries that were read between two times, in ms since the epoch; from the begin of the log if `since_ms` is 0."""

    def __init__(self, since_ms: float = 0.0, until_ms: float = math.inf) -> None:
        self.unreadable = 0
        """Number of records that no selector could read either."""
        self._since_ms, self._until_ms = since_ms, until_ms
        self._kinds: dict[QueryKind, int] = {}
        self._online_ms, self._online = array("d"), array("i")
        self._offline: dict[tuple[str, str], _Offline] = {}

    def add(self, record: Record) -> None:
        """Add the query in a record of a task topic, an ingress topic or the lanes."""
        try:
            query, is_moved = read_query(record)
            kind = self._kinds.setdefault(kind_of(query), len(self._kinds))
        except (InvalidRequest, UnicodeError):
            self.unreadable += 1
            return
        if query.needs.mode is Mode.ONLINE:
            self._online_ms.append(query.sent_ms)
            self._online.append(kind)
            return
        key, read = (query.task, query.id), _Offline(query.sent_ms, kind, not is_moved)
        known = self._offline.setdefault(key, read)
        first = min(known, read)
        self._offline[key] = first._replace(is_original=known.is_original or read.is_original)

    def trace(self) -> Trace:
        """Return the queries by send time; the first one arrives at 0."""
        offline = [query for query in self._offline.values() if query.is_original or not self._since_ms]
        sent_ms = np.concatenate([np.array(self._online_ms), [query.sent_ms for query in offline]])
        kind = np.concatenate([np.array(self._online, np.int32), [query.kind for query in offline]]).astype(np.int32)
        inside = np.flatnonzero((sent_ms >= self._since_ms) & (sent_ms < self._until_ms))
        order = inside[np.argsort(sent_ms[inside], kind="stable")]
        first_ms = sent_ms[order[0]] if len(order) else 0.0
        return Trace((sent_ms[order] - first_ms) / 1e3, kind[order], tuple(self._kinds))


def read_query(record: Record) -> tuple[Query, bool]:
    """Read a query, with its times by the broker's clock; the second value is true if a selector wrote the record.

    Raises:
        InvalidRequest: no selector could read the record.
        UnicodeError: a header is not UTF-8.
    """
    fields = as_text(record.headers)
    if event := unwrap(fields, record.value or b""):
        fields = event[0]
    tenant, is_lane = tenant_of(record.topic), record.topic == LANES
    if tenant is not None:
        fields[h.TENANT] = tenant
    if is_offline(record.topic):
        fields[h.MODE] = Mode.OFFLINE
    check_headers(fields)
    fields.pop(h.REPLY_TO, None)  # may name a topic that only the query's tenant may use
    named = tenant is not None or is_lane
    query = parse_query(fields.get(h.TASK, "") if named else task_of(record.topic), fields, record.timestamp)
    return query, is_lane or (tenant is None and h.TASK in fields)


def kind_of(query: Query) -> QueryKind:
    """Return the kind of a query.

    A deadline that ends before the latency becomes the latency, in whole ms, because each query has another one.

    Raises:
        InvalidRequest: the task has no valid name.
    """
    needs, latency_ms = query.needs, query.needs.latency_ms
    if query.deadline_ms is not None:
        left_ms = query.deadline_ms - query.sent_ms
        if latency_ms is None or left_ms < latency_ms - ROUNDING_MS:
            latency_ms = float(max(round(left_ms), 0))
    try:
        return QueryKind(
            task=query.task,
            latency_ms=latency_ms,
            min_accuracy=needs.min_accuracy,
            max_cost=needs.max_cost,
            batch=query.batch,
            tenant=query.tenant,
            mode=needs.mode,
            target=needs.target,
        )
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def record(
    file: Annotated[Path, typer.Argument(help="Trace to write: *.csv, *.csv.gz, *.csv.xz or *.parquet.")],
    since: Annotated[
        str | None, typer.Option(help="First arrival: a date, or a distance before the present such as 30s, 2h.")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", help="Duration from the first arrival, or from now, such as 15m.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Record the arrivals and needs of queries as a trace, without payloads: for a time, or all in the log so far."""
    check_target(file)
    start_s = parse_moment(since).timestamp() if since else (time.time() if lasting else 0.0)
    end_s = start_s + parse_duration(lasting) if lasting else math.inf
    recording = Recording(start_s * 1e3, end_s * 1e3)
    asyncio.run(read_log(find_kafka(home), recording, start_s, end_s))
    trace = recording.trace()
    if not len(trace):
        raise OperatorError(f"no query arrived in this time: send some, or record --for a longer time; no {file}")
    write_trace(trace, file)
    tasks = len({kind.task for kind in trace.kinds})
    facts = {"queries": len(trace), "tasks": tasks, "seconds": trace.duration_s, "unreadable": recording.unreadable}
    if as_json:
        return show_json(facts)
    skipped = f"; {recording.unreadable:,} unreadable records" if recording.unreadable else ""
    return err.print(f"{file}: {len(trace):,} queries of {tasks} task(s) in {duration(trace.duration_s)}{skipped}")


async def read_log(kafka: KafkaSettings, recording: Recording, start_s: float, end_s: float) -> None:
    """Read the log from `start_s` to `end_s` or, if that is infinite, to the present."""
    try:
        topics = await topic_names(kafka, TASKS, INGRESS, LANES)
        async with Tail(kafka, _CLIENT, topics, since_ms=start_s * 1e3) as tail:
            if end_s < math.inf:
                await follow_log(tail.poll, recording, end_s - time.time())
            async for one in tail.up_to(await partition_ends(kafka, topics)):
                recording.add(one)
    except (KafkaError, TimeoutError) as error:
        raise OperatorError(f"Kafka did not return all records ({error!r}): try again") from error


async def follow_log(poll: Callable[[], Awaitable[Sequence[Record]]], recording: Recording, left_s: float) -> None:
    """Add records as `poll` returns them, until `left_s` seconds have passed or SIGINT arrives."""
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):
        async with asyncio.timeout(left_s) as limit:
            loop.add_signal_handler(signal.SIGINT, lambda: limit.reschedule(loop.time()))
            try:
                while True:
                    for one in await poll():
                        recording.add(one)
            finally:
                loop.remove_signal_handler(signal.SIGINT)
