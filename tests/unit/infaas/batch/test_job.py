"""Tests of `BatchJob`: order, limits, continuation and failures."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infaas.batch.asker import ChunkAsker, cost_of
from infaas.batch.job import BatchJob
from infaas.batch.limits import BatchLimits
from infaas.batch.rows import Chunk, ChunkResult, FailedRow, OutputRows
from infaas.batch.sink import Progress
from schemas.errors import OperatorError, Overloaded, UnknownTask
from tests.unit.infaas.batch.memory import TERMS, Numbers, Squares, Written, answer


def job(model: Squares, sink: Written, rows: int = 30, limits: BatchLimits | None = None) -> BatchJob:
    return BatchJob(Numbers(rows), sink, TERMS, ChunkAsker(model.ask).answer, limits=limits or BatchLimits(in_flight=5))


async def test_batch_job_writes_results_in_order_of_rows() -> None:
    sink = Written()
    progress = await job(Squares(), sink).run()
    assert sink.committed == [(n, float(n * n)) for n in range(30)]
    assert (progress.answered, progress.failed, progress.position) == (30, 0, {"row": 30})
    assert sink.finished


async def test_batch_job_bounds_chunks_in_flight_and_read() -> None:
    source, model, sink = Numbers(400), Squares(), Written()
    blocked = asyncio.Event()

    async def ask(chunk: Chunk) -> ChunkResult:
        if chunk.rows[0].numbers[0] == 0:
            await blocked.wait()
        return await ChunkAsker(model.ask).answer(chunk)

    running = asyncio.create_task(BatchJob(source, sink, TERMS, ask, limits=BatchLimits(in_flight=5)).run())
    for _ in range(500):
        await asyncio.sleep(0)
    assert source.read == 20, "the oldest chunk waits, and five are held"
    blocked.set()
    await running
    assert model.most_at_once <= 5
    assert len(sink.committed) == 400


def test_cost_of_generated_text_counts_its_tokens() -> None:
    """A price is for 1000 queries, but that of generated text for 1000 tokens."""
    texts = {"text_output": np.array([b"a", b"b c"], object), "completion_tokens": np.array([2, 3], np.int32)}
    assert cost_of(answer(texts, cost=4.0)) == pytest.approx(0.02)
    assert cost_of(answer({"y": np.zeros((2, 1))}, cost=4.0)) == pytest.approx(0.004)


@given(st.sets(st.integers(0, 29), max_size=30))
def test_batch_job_fails_only_poisonous_rows(poison: set[int]) -> None:
    sink = Written()
    asyncio.run(job(Squares(tuple(poison)), sink).run())
    assert sink.failed == sorted(poison)
    assert sink.committed == [(n, float(n * n)) for n in range(30) if n not in poison]


async def test_batch_job_continues_from_commit_with_same_chunks() -> None:
    undisturbed, sink, whole = Squares(), Written(), Written()
    await job(undisturbed, whole).run()
    first = Squares(cost=1.0)
    with pytest.raises(OperatorError, match="would cost more than the 14 USD"):
        await job(first, sink, limits=BatchLimits(max_cost=14, row_cost=1.0, in_flight=2)).run()
    assert 0 < len(sink.committed) < 30
    again = Squares()
    await job(again, sink).run()
    assert sink.committed == whole.committed
    assert all(chunk in undisturbed.asked for chunk in again.asked)
    assert sink.finished


async def test_batch_job_stays_within_max_cost() -> None:
    sink, model = Written(), Squares(cost=1.0)
    with pytest.raises(OperatorError, match=r"more than the 13 USD .* run the same command to resume"):
        await job(model, sink, limits=BatchLimits(max_cost=13, row_cost=0.9, in_flight=3)).run()
    assert sink.progress is not None
    assert sink.progress.cost == len(sink.committed) == 12
    assert not sink.finished


async def test_batch_job_keeps_results_at_its_deadline() -> None:
    sink, now = Written(), [0.0]

    async def ask(chunk: Chunk) -> ChunkResult:
        now[0] += 1.0
        return await ChunkAsker(Squares().ask).answer(chunk)

    limits = BatchLimits(deadline_s=3.0, in_flight=1)
    with pytest.raises(OperatorError, match="until --deadline are over after 12 rows"):
        await BatchJob(Numbers(30), sink, TERMS, ask, limits=limits, clock=lambda: now[0]).run()
    assert len(sink.committed) == 12


async def test_batch_job_ends_after_too_many_failures() -> None:
    with pytest.raises(OperatorError, match="rows have all failed: cannot square"):
        await job(Squares(tuple(range(1000))), Written(), rows=1000).run()
    with pytest.raises(OperatorError, match=r"3 rows have failed, more than the 2 of --max-failed"):
        await job(Squares((1, 2, 3)), Written(), limits=BatchLimits(max_failed=2)).run()


async def test_chunk_asker_retries_until_patience_ends() -> None:
    attempts, troubles = [0], list[str]()

    async def ask(inputs: object) -> object:
        attempts[0] += 1
        if attempts[0] < 3:
            raise Overloaded("busy", retry_after_s=0.001)
        return answer({"y": inputs["x"]})  # type: ignore[index]

    asker = ChunkAsker(ask, on_trouble=lambda trouble: troubles.append(trouble.reason))  # type: ignore[arg-type]
    sink = Written()
    await BatchJob(Numbers(4), sink, TERMS, asker.answer).run()
    assert (len(sink.committed), troubles) == (4, ["busy", "busy"])
    attempts[0] = -1000
    asker = ChunkAsker(ask, patience_s=0.0)  # type: ignore[arg-type]
    with pytest.raises(OperatorError, match=r"no answer for \d+ s: busy"):
        await BatchJob(Numbers(4), Written(), TERMS, asker.answer).run()


async def test_batch_job_ends_at_permanent_error() -> None:
    async def ask(_inputs: object) -> object:
        raise UnknownTask("no such task")

    with pytest.raises(UnknownTask):
        await BatchJob(Numbers(4), Written(), TERMS, ChunkAsker(ask).answer).run()  # type: ignore[arg-type]


def test_progress_after_adds_chunk_to_all_counts() -> None:
    answered = (OutputRows(np.array([3, 5]), {}), OutputRows(np.array([7]), {}))
    failed = (FailedRow(4, "model_failed", "cannot square this"), FailedRow(6, "model_failed", "cannot square this"))
    result = ChunkResult(answered, failed, {"row": 8}, 0.5)
    before = Progress(position={"row": 3}, answered=2, failed=1, cost=1.0, seconds=1.5)
    assert before.after(result, 2.0) == Progress(position={"row": 8}, answered=5, failed=3, cost=1.5, seconds=2.0)
