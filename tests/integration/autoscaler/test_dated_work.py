"""Tests of offline work with a deadline: jobs by state, lines that are no jobs yet, and the time between readings."""

import pytest

from autoscaler.record.dated_work import INTERVAL_S, DatedWorkReader
from schemas.access import ANYONE, Principal, Quota, Role
from schemas.jobs import DatedWork, NewJob
from schemas.openai import BATCH
from store.batches import NewBatch, advance_batch, cancel_batch, keep_upload, put_batch, put_file, start_batch
from store.jobs import cancel_jobs, dated_work, mark_sent, put_jobs
from store.pool import Pool

CONTENT = "cd" * 32
DAY_S = 86_400.0


async def put(
    pool: Pool, *ids: str, task: str = "digits", deadline_s: float | None = 5400.0, offline: bool = True,
    batch: str | None = None,
) -> None:  # fmt: skip
    jobs = [
        NewJob(
            id=one, model=task, task=task, offline=offline, headers={}, request=b"{}", deadline_s=deadline_s,
            batch=batch, fingerprint=b"f",
        )
        for one in ids
    ]  # fmt: skip
    await put_jobs(pool, [jobs])


async def a_batch(pool: Pool, name: str, caller: Principal, window_s: float, total: int, stored: int) -> None:
    await keep_upload(pool, "acme", CONTENT, 7)
    await put_file(pool, f"file-{name}", "acme", "in.jsonl", BATCH, CONTENT, 3600.0)
    assert await put_batch(pool, "acme", NewBatch(name, caller, f"file-{name}", "/v1/embeddings", "1m", window_s, None))
    await start_batch(pool, name, total)
    await advance_batch(pool, name, stored, 0)


def counts(found: list[DatedWork]) -> list[tuple[str, int, float]]:
    return [(work.task, work.sent, work.unsent) for work in found]


async def test_dated_work_counts_offline_jobs_by_state(store_pool: Pool) -> None:
    await put(store_pool, "a", "b", "c", "d")
    await put(store_pool, "e", task="reviews", deadline_s=45.0)
    await put(store_pool, "f", deadline_s=3 * DAY_S)
    await put(store_pool, "g", deadline_s=0.0)
    await put(store_pool, "h", deadline_s=None)
    await put(store_pool, "i", offline=False)
    await mark_sent(store_pool, ["b", "c"])
    await cancel_jobs(store_pool, ["d"])
    same = "UPDATE jobs SET deadline_at = (SELECT deadline_at FROM jobs WHERE id = 'a') WHERE id < 'e'"
    await store_pool.execute(same)
    found = await dated_work(store_pool, DAY_S)
    assert counts(found) == [("digits", 2, 1.0), ("reviews", 0, 1.0)]
    assert 5340 < found[0].left_s < 5400
    assert 0 < found[1].left_s < 45


async def test_dated_work_expects_lines_that_are_no_jobs_yet(store_pool: Pool) -> None:
    await a_batch(store_pool, "batch_1", ANYONE, 5400.0, total=100, stored=4)
    await put(store_pool, "a", "b", "c", task="digits", deadline_s=5400.0, batch="batch_1")
    await put(store_pool, "d", task="reviews", deadline_s=5400.0, batch="batch_1")
    await store_pool.execute("UPDATE jobs SET deadline_at = (SELECT deadline_at FROM batches)")
    assert counts(await dated_work(store_pool, DAY_S)) == [("digits", 0, 3 + 72.0), ("reviews", 0, 1 + 24.0)]
    await mark_sent(store_pool, ["a", "b", "c", "d"])
    assert counts(await dated_work(store_pool, DAY_S)) == [("digits", 3, 72.0), ("reviews", 1, 24.0)]
    await cancel_batch(store_pool, "batch_1")
    assert counts(await dated_work(store_pool, DAY_S)) == []


async def test_dated_work_expects_lines_at_the_rate_of_their_key(store_pool: Pool) -> None:
    slow = Principal("key", "acme", frozenset({Role.QUERY}), quota=Quota(per_second=0.5))
    await a_batch(store_pool, "batch_1", slow, 60.0, total=1000, stored=1)
    await put(store_pool, "a", deadline_s=60.0, batch="batch_1")
    await store_pool.execute("UPDATE jobs SET deadline_at = (SELECT deadline_at FROM batches)")
    (work,) = await dated_work(store_pool, DAY_S)
    assert 1 < work.unsent <= 31, "a key of a query in two seconds enters thirty in the minute"


async def test_reader_counts_time_between_readings(store_pool: Pool) -> None:
    reader = DatedWorkReader(store_pool)
    assert await reader.read(1000.0) == []
    await put(store_pool, "a", deadline_s=5400.0)
    await put(store_pool, "b", task="reviews", deadline_s=INTERVAL_S / 2)
    assert await reader.read(1000.0 + INTERVAL_S / 2) == []
    first = await reader.read(1000.0 + INTERVAL_S)
    then = await reader.read(1000.0 + 1.5 * INTERVAL_S)
    assert [(work.task, work.sent, work.unsent) for work in then] == [("digits", 0, 1.0)], "the time of reviews is over"
    assert then[0].left_s == pytest.approx(first[0].left_s - INTERVAL_S / 2)
