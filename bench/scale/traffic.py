"""Open-loop load of several tasks at once, in steps, through the client library, with answers as users see them.

Queries are sent on time, regardless of late answers. Each is one call; a call that returned is one answer shown.
Repeated results are counted where the library drops them.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.load.pace import pace, repeated_results
from broker.kafka.settings import KafkaSettings
from infaas.client import InfaasClient
from schemas.errors import DeadlineExceeded, QueryError

LOST_S = 30.0
"""Seconds without a result after which a query is lost."""
_UNANSWERED = f"there was no result within {LOST_S:g} s"


class TaskStream(msgspec.Struct, frozen=True, kw_only=True):
    """Steady stream of queries of one task."""

    task: str
    inputs: dict[str, NDArray[np.generic]]
    min_accuracy: float
    latency_ms: float
    """Required latency of each query; a refusal or a later answer is a violation."""
    rate: float
    """Queries per second at a factor of 1."""


class QuerySample(msgspec.Struct):
    """Result of one query."""

    task: str
    sent_s: float
    """Seconds since the load began."""
    factor: float
    """Factor of the load at that time."""
    limit_ms: float
    total_ms: float = 0.0
    status: str = "lost"
    shown: int = 0
    """Number of answers that the library returned."""

    @property
    def violated(self) -> bool:
        """True if it was refused, late or lost."""
        return self.status != "ok" or self.total_ms > self.limit_ms


class LoadResult(msgspec.Struct, frozen=True):
    """Outcome of a load."""

    samples: list[QuerySample]
    repeated: int
    """Number of duplicate results that the library dropped."""


async def load(
    kafka: KafkaSettings, streams: Sequence[TaskStream], factors: Sequence[float], step_s: float
) -> LoadResult:
    """Send queries at each factor for `step_s`, and wait for every answer."""
    samples: list[QuerySample] = []
    before = repeated_results()
    async with InfaasClient(kafka=kafka) as client, asyncio.TaskGroup() as sending:
        began = time.monotonic()
        for stream in streams:
            sending.create_task(_send(client, stream, factors, step_s, began, samples), name=f"send {stream.task}")
    return LoadResult(samples, repeated_results() - before)


async def _send(
    client: InfaasClient,
    stream: TaskStream,
    factors: Sequence[float],
    step_s: float,
    began: float,
    samples: list[QuerySample],
) -> None:
    async with asyncio.TaskGroup() as asking:
        for step, factor in enumerate(factors):
            rate = stream.rate * factor
            async for _ in pace(rate, int(step_s * rate), began + step * step_s):
                sample = QuerySample(stream.task, time.monotonic() - began, factor, stream.latency_ms)
                samples.append(sample)
                asking.create_task(_ask(client, stream, sample), name=f"query {len(samples)}")


async def _ask(client: InfaasClient, stream: TaskStream, sample: QuerySample) -> None:
    started = time.monotonic()
    try:
        await client.infer(
            stream.task,
            stream.inputs,
            latency_ms=stream.latency_ms,
            min_accuracy=stream.min_accuracy,
            timeout_s=LOST_S,
        )
        sample.status = "ok"
    except QueryError as error:
        is_lost = isinstance(error, DeadlineExceeded) and str(error) == _UNANSWERED
        sample.status = "lost" if is_lost else error.code
    sample.total_ms = (time.monotonic() - started) * 1e3
    sample.shown += 1
