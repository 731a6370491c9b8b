"""Player of a trace: it sends each query when it is due, and records the outcomes as a simulation does.

An open loop: a late answer delays no other query. A latency counts from the time at which the query was due, so the
delay of this program is part of it.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from infaas.client.client import QueryOptions, encode
from infaas.client.transport import EncodedQuery, Transport
from schemas.errors import DeadlineExceeded, ErrorCode, Forbidden, QueryError, RefusalReason, Unauthenticated
from schemas.query import Mode
from schemas.result import Result
from schemas.tensors import Array
from simulator.calibration.measured_settings import MeasuredTimes
from simulator.outcomes import Outcomes, QueryColumns, QueryOutcome
from simulator.trace import QueryKind, Trace

_OUTCOMES = {
    ErrorCode.DEADLINE_EXCEEDED: QueryOutcome.EXPIRED,
    ErrorCode.MODEL_FAILED: QueryOutcome.FAILED,
}
"""Outcomes of errors; others are refusals."""
_SHUT_OUT = (Forbidden, Unauthenticated)
"""Errors that no query of this user is spared, and no simulation has."""
_NS = 1e-9


@dataclass(frozen=True, slots=True)
class PlayedTrace:
    """Outcomes of the queries of a trace on a real system."""

    queries: QueryColumns
    times: MeasuredTimes
    """Times of the online queries that were answered."""
    send_delay_s: NDArray[np.float64]
    """Delay of each send by this program."""


class TracePlayer:
    """Player of one trace; `play` runs once.

    Args:
        trace: queries to send.
        inputs: rows of each task, as many as the largest query holds.
        variants: numbers of the variants by name.
        drain_s: longest time after the last arrival to wait for results.
    """

    def __init__(
        self, trace: Trace, inputs: Mapping[str, Mapping[str, Array]], variants: Mapping[str, int], drain_s: float
    ) -> None:
        self._trace = trace
        self._variants = variants
        self._drain_s = drain_s
        self._encode = [partial(_encoded, kind, _rows(inputs[kind.task], kind.batch)) for kind in trace.kinds]
        self._outcomes = Outcomes(len(trace))
        self._times: list[tuple[float, ...]] = []
        self._send_delay_s = np.zeros(len(trace))
        self._began_s = 0.0

    async def play(self, transport: Transport, began_s: float) -> PlayedTrace:
        """Send all queries, and wait for their results; the trace begins at the monotonic time `began_s`.

        Raises:
            ExceptionGroup: the system does not let this user send such queries.
        """
        self._began_s, kinds = began_s, self._trace.kind.tolist()
        end_s = self._trace.duration_s + self._drain_s
        with suppress(TimeoutError):
            async with asyncio.timeout(end_s), asyncio.TaskGroup() as asking:
                for number, due_s in enumerate(self._trace.time_s.tolist()):
                    # Late ones yield, too: the queries before are sent first.
                    await asyncio.sleep(max(due_s - self._now_s, 0.0))
                    query = self._encode[kinds[number]](timeout_s=max(end_s - due_s, 0.1))
                    asking.create_task(self._ask(transport, number, query), name=f"query {number}")
        columns = np.array(self._times or np.empty((0, 5)), np.float64).T
        times = MeasuredTimes(
            send_delay_s=columns[0],
            to_selector_s=columns[1],
            to_worker_s=columns[2],
            compute_s=columns[3],
            total_s=columns[4],
        )
        return PlayedTrace(self._outcomes.columns(0.0), times, self._send_delay_s)

    async def _ask(self, transport: Transport, number: int, query: EncodedQuery) -> None:
        sent_s = self._now_s
        self._send_delay_s[number] = sent_s - self._trace.time_s[number]
        try:
            result = await transport.ask(query)
        except DeadlineExceeded:  # without a result in time the query still waits
            return
        except QueryError as error:
            self._fail(number, error)
            return
        failure = result.error()
        if failure is None:
            self._take(number, result, self._now_s - sent_s)
        else:
            self._fail(number, failure)

    def _fail(self, number: int, error: QueryError) -> None:
        if isinstance(error, _SHUT_OUT):
            raise error
        self._end(number, _OUTCOMES.get(error.code, QueryOutcome.REFUSED), error.reason)

    def _take(self, number: int, result: Result, total_s: float) -> None:
        kind = self._trace.kinds[self._trace.kind[number]]
        latency_s = math.inf if kind.latency_ms is None else kind.latency_ms / 1e3
        due_s, now_s = float(self._trace.time_s[number]), self._now_s
        to_selector_s = result.task_queue_ns * _NS
        if (variant := self._variants.get(result.variant)) is not None:
            self._outcomes.chosen(
                number, variant, due_s + to_selector_s, cost=result.cost or 0.0, predicted_s=result.predicted_ns * _NS
            )
        self._end(number, QueryOutcome.ANSWERED if now_s - due_s <= latency_s else QueryOutcome.LATE)
        if kind.mode is Mode.ONLINE:
            times_ns = result.variant_queue_ns, result.compute_ns
            delay_s = float(self._send_delay_s[number])
            self._times.append((delay_s, to_selector_s, *(one * _NS for one in times_ns), total_s))

    @property
    def _now_s(self) -> float:
        """Seconds of the trace."""
        return time.monotonic() - self._began_s

    def _end(self, number: int, outcome: QueryOutcome, reason: RefusalReason | None = None) -> None:
        self._outcomes.ended(number, outcome, self._now_s, reason)


def _rows(inputs: Mapping[str, Array], count: int) -> dict[str, Array]:
    return {name: array[:count] for name, array in inputs.items()}


def _encoded(kind: QueryKind, inputs: Mapping[str, Array], *, timeout_s: float) -> EncodedQuery:
    return encode(kind.task, inputs, query_options(kind, timeout_s))


def query_options(kind: QueryKind, timeout_s: float) -> QueryOptions:
    """Return the options of a query of a kind."""
    options = QueryOptions(mode=kind.mode, timeout_s=timeout_s)
    for name in ("latency_ms", "min_accuracy", "max_cost", "target", "tenant"):
        if (value := getattr(kind, name)) is not None:
            options[name] = value
    return options
