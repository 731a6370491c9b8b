"""Tests of the player of traces, with a transport that answers at once."""

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from broker.replies.answer_stream import AnswerEvent
from infaas.calibrate.trace_player import PlayedTrace, TracePlayer
from infaas.client.transport import EncodedQuery
from schemas import headers as h
from schemas.errors import DeadlineExceeded, ErrorCode, Forbidden, Overloaded, RefusalReason, Unauthenticated
from schemas.query import Mode
from schemas.result import OK, Result
from simulator.outcomes import REASONS, QueryOutcome
from simulator.trace import QueryKind, Trace

VARIANT = "mlp.onnx-fp32.cpu"
KIND = QueryKind(task="digits", latency_ms=5000.0, min_accuracy=0.9, batch=2)


class Answers:
    """Transport that gives prepared answers in turn."""

    def __init__(self, *answers: Result | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[EncodedQuery] = []
        self.asked_s: list[float] = []
        """Times of the calls, by the clock of `EncodedQuery.begun_s`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    async def ask(self, query: EncodedQuery) -> Result:
        self.asked.append(query)
        self.asked_s.append(time.perf_counter())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stream(self, query: EncodedQuery) -> AbstractAsyncContextManager[AsyncIterator[AnswerEvent]]:
        raise AssertionError("a trace has no queries for parts")


def answer(**fields: object) -> Result:
    given = {"id": "q", "status": OK, "value": b"", "variant": VARIANT, "cost": 2.0} | fields
    return Result(**given)  # pyright: ignore[reportArgumentType]


async def played(transport: Answers, *kinds: QueryKind, late_s: float = 0.0) -> PlayedTrace:
    trace = Trace(np.linspace(0.0, 0.001, len(kinds)), np.arange(len(kinds), dtype=np.int32), kinds)
    player = TracePlayer(trace, {"digits": {"x": np.zeros((4, 3), np.float32)}}, {VARIANT: 7}, drain_s=5.0)
    return await player.play(transport, time.monotonic() - late_s)


async def test_player_sends_needs_and_inputs_of_kinds() -> None:
    transport = Answers(answer(), answer())
    await played(transport, KIND, QueryKind(task="digits", mode=Mode.OFFLINE))
    [first, second] = transport.asked
    assert first.task == "digits"
    assert {first.fields[name] for name in (h.LATENCY_MS, h.MIN_ACCURACY, h.BATCH)} == {"5000.0", "0.9", "2"}
    assert second.fields[h.MODE] == Mode.OFFLINE
    assert h.LATENCY_MS not in second.fields


@pytest.mark.parametrize(("given", "outcome", "reason"), [
    (answer(), QueryOutcome.ANSWERED, ""),
    (
        answer(status=ErrorCode.OVERLOADED, reason=RefusalReason.INSTANCES_BUSY),
        QueryOutcome.REFUSED,
        RefusalReason.INSTANCES_BUSY,
    ),
    (answer(status=ErrorCode.DEADLINE_EXCEEDED), QueryOutcome.EXPIRED, ""),
    (answer(status=ErrorCode.MODEL_FAILED), QueryOutcome.FAILED, ""),
    (answer(status=ErrorCode.OVERLOADED, reason="a newer one"), QueryOutcome.REFUSED, ""),
    (answer(status="a newer one"), QueryOutcome.REFUSED, ""),
    (Overloaded("full", reason=RefusalReason.IN_FLIGHT_LIMIT), QueryOutcome.REFUSED, RefusalReason.IN_FLIGHT_LIMIT),
    (DeadlineExceeded("no result", reason=RefusalReason.NO_RESULT), QueryOutcome.WAITING, ""),
])  # fmt: skip
async def test_player_records_outcome(given: Result | Exception, outcome: QueryOutcome, reason: str) -> None:
    queries = (await played(Answers(given), KIND)).queries
    assert queries.outcome.tolist() == [outcome]
    assert REASONS[queries.reason[0]] == reason


@pytest.mark.parametrize("given", [Forbidden("not yours"), answer(status=ErrorCode.UNAUTHENTICATED)])
async def test_player_ends_where_user_may_not_query(given: Result | Exception) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await played(Answers(given, answer()), KIND, KIND)
    assert isinstance(raised.value.exceptions[0], Forbidden | Unauthenticated)


async def test_player_behind_time_sends_each_query_before_it_encodes_the_next() -> None:
    transport = Answers(answer(), answer(), answer())
    await played(transport, KIND, KIND, KIND, late_s=1.0)
    for sent_s, following in zip(transport.asked_s, transport.asked[1:], strict=False):
        assert sent_s <= following.begun_s


async def test_player_records_late_answer() -> None:
    found = await played(Answers(answer()), QueryKind(task="digits", latency_ms=0.0))
    assert found.queries.outcome.tolist() == [QueryOutcome.LATE]


async def test_player_records_variant_and_times() -> None:
    result = answer(task_queue_ns=2_000_000, variant_queue_ns=3_000_000, compute_ns=4_000_000)
    found = await played(Answers(result, result), KIND, QueryKind(task="digits", mode=Mode.OFFLINE))
    assert found.queries.variant.tolist() == [7, 7]
    assert found.queries.cost.tolist() == [2.0, 2.0]
    assert found.times.to_selector_s.tolist() == [0.002], "offline queries wait on purpose"
    assert found.times.to_worker_s.tolist() == [0.003]
    assert found.times.compute_s.tolist() == [0.004]
