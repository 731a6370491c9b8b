"""Open-loop load of a trace through the client library, with answers as users see them.

Queries are sent when they are due, regardless of late answers, and their latency counts from then. Each is one call; a
call that returned is one answer shown. Repeated results are counted where the library drops them.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.load.pace import repeated_results
from broker.kafka.settings import KafkaSettings
from infaas.calibrate.trace_player import query_options
from infaas.client import InfaasClient
from schemas.errors import DeadlineExceeded, QueryError
from simulator.trace import QueryKind, Trace
from zoo.samples import labelled

LOST_S = 30.0
"""Seconds without a result after which a query is lost."""
_UNANSWERED = f"there was no result within {LOST_S:g} s"

Inputs = Mapping[str, NDArray[np.generic]]


class QuerySample(msgspec.Struct):
    """Result of one query."""

    kind: QueryKind
    due_s: float
    """Seconds from the beginning of the load to its arrival."""
    total_ms: float = 0.0
    status: str = "lost"
    accuracy: float = 0.0
    """Accuracy of the variant that answered."""
    shown: int = 0
    """Number of answers that the library returned."""

    @property
    def outcome(self) -> str:
        """Outcome: `answered` (in time), `late` (or expired), `refused` or `lost`."""
        if self.status == "ok":
            return "late" if self.total_ms > (self.kind.latency_ms or float("inf")) else "answered"
        return {"lost": "lost", DeadlineExceeded.code: "late"}.get(self.status, "refused")

    @property
    def violated(self) -> bool:
        """True if it was refused, late or lost."""
        return self.outcome != "answered"


class LoadResult(msgspec.Struct, frozen=True):
    """Outcome of a load."""

    samples: list[QuerySample]
    repeated: int
    """Number of duplicate results that the library dropped."""


def steady(kinds: Sequence[QueryKind], rate: float, seconds: float) -> Trace:
    """Return queries of these kinds in turn, `rate` of them a second."""
    numbers = np.arange(int(rate * seconds))
    return Trace(numbers / rate, (numbers % len(kinds)).astype(np.int32), tuple(kinds))


async def load(kafka: KafkaSettings, trace: Trace) -> LoadResult:
    """Send the queries of a trace, with held-out inputs of the zoo, and wait for every answer."""
    whole = {task: labelled(task)[0] for task in sorted({kind.task for kind in trace.kinds})}
    inputs = [{name: array[: kind.batch] for name, array in whole[kind.task].items()} for kind in trace.kinds]
    samples: list[QuerySample] = []
    before = repeated_results()
    async with InfaasClient(kafka=kafka) as client, asyncio.TaskGroup() as asking:
        began_s = time.monotonic()
        for due_s, kind in zip(trace.time_s.tolist(), trace.kind.tolist(), strict=True):
            await asyncio.sleep(max(began_s + due_s - time.monotonic(), 0.0))
            sample = QuerySample(trace.kinds[kind], due_s)
            samples.append(sample)
            asking.create_task(_ask(client, inputs[kind], sample, began_s), name=f"query {len(samples)}")
    return LoadResult(samples, repeated_results() - before)


async def _ask(client: InfaasClient, inputs: Inputs, sample: QuerySample, began_s: float) -> None:
    kind = sample.kind
    try:
        answer = await client.infer(kind.task, inputs, **query_options(kind, LOST_S))
        sample.status, sample.accuracy = "ok", answer.accuracy or 0.0
    except QueryError as error:
        is_lost = isinstance(error, DeadlineExceeded) and str(error) == _UNANSWERED
        sample.status = "lost" if is_lost else error.code
    sample.total_ms = (time.monotonic() - began_s - sample.due_s) * 1e3
    sample.shown += 1
