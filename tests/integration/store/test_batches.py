"""Tests of the rows of files and batches: what a file keeps, and what waits for an open batch."""

from datetime import UTC, datetime
from hashlib import sha256

from gateway.jobs.outcomes import failed
from gateway.openai.lines import failed_line
from schemas import headers as h
from schemas.access import ANYONE, Principal, Role
from schemas.errors import InvalidRequest
from schemas.jobs import NewJob
from schemas.openai import BATCH, BatchError, BatchLine, BatchStatus
from schemas.rows.batches import BatchRow
from store.batches import (
    NewBatch,
    advance_batch,
    claiming_batch,
    delete_file,
    end_batch,
    expire_files,
    fail_batch,
    keep_upload,
    line_results,
    list_batches,
    list_files,
    pass_batch,
    prune_batches,
    put_batch,
    put_failed_lines,
    put_file,
    start_batch,
)
from store.jobs import end_jobs, prune_jobs, prune_results, put_jobs
from store.pool import Pool
from store.uploads import sweep_uploads

CONTENT = "cd" * 32
KEPT_S = 3600.0


async def a_file(pool: Pool, file_id: str = "file-1", tenant: str = "acme") -> None:
    await keep_upload(pool, tenant, CONTENT, 7)
    assert await put_file(pool, file_id, tenant, "in.jsonl", BATCH, CONTENT, KEPT_S)


async def a_batch(pool: Pool, batch_id: str = "batch_1", window_s: float = 60.0) -> BatchRow:
    batch = NewBatch(batch_id, ANYONE, "file-1", "/v1/embeddings", "1m", window_s, None)
    assert await put_batch(pool, "acme", batch)
    return (await list_batches(pool, None, batch_id=batch_id))[0]


async def sweep(pool: Pool) -> list[str]:
    """Delete the uploads that nothing needs; return their files."""
    gone = list[str]()

    async def discard(found: str) -> None:
        gone.append(found)

    await pool.execute("UPDATE uploads SET used_at = used_at - interval '1 hour'")
    await sweep_uploads(pool, 60, discard)
    return gone


async def test_sweep_keeps_the_upload_of_a_file(store_pool: Pool) -> None:
    await a_file(store_pool)
    assert await sweep(store_pool) == []
    assert await delete_file(store_pool, "file-1")
    assert await sweep(store_pool) == [CONTENT]
    assert await put_file(store_pool, "file-2", "acme", "in.jsonl", BATCH, CONTENT, KEPT_S) is None


async def test_file_stays_while_a_batch_reads_it(store_pool: Pool) -> None:
    await a_file(store_pool)
    await a_batch(store_pool)
    await store_pool.execute("UPDATE files SET expires_at = created_at")
    assert not await delete_file(store_pool, "file-1")
    assert await expire_files(store_pool) == 0
    assert await list_files(store_pool, None, file_id="file-1") == [], "it is not shown any more"
    await fail_batch(store_pool, "batch_1", [BatchError(code="invalid_request", message="no", line=1)])
    assert await expire_files(store_pool) == 1
    (row,) = await list_batches(store_pool, "acme")
    assert (row.status, [error.line for error in row.errors]) == (BatchStatus.FAILED, [1])
    assert await prune_batches(store_pool, 3600) == 0
    assert await prune_batches(store_pool, 0) == 1


async def test_put_batch_needs_a_file_of_the_tenant(store_pool: Pool) -> None:
    await a_file(store_pool)
    batch = NewBatch("batch_1", ANYONE, "file-1", "/v1/embeddings", "1m", 60.0, {"a": "b"})
    assert not await put_batch(store_pool, "globex", batch)
    assert await put_batch(store_pool, None, batch), "an administrator sees all files"
    (row,) = await list_batches(store_pool, "acme")
    assert (row.caller, row.metadata) == (ANYONE, {"a": "b"})
    assert await list_batches(store_pool, "globex") == []


async def test_claiming_batch_takes_the_one_that_waited(store_pool: Pool) -> None:
    await a_file(store_pool)
    for name in ("batch_1", "batch_2"):
        await a_batch(store_pool, name)
    async with claiming_batch(store_pool) as (session, first):
        async with claiming_batch(store_pool) as (_, second):
            assert (first and first.id, second and second.id) == ("batch_1", "batch_2")
        await pass_batch(session, "batch_1")
    async with claiming_batch(store_pool) as (_, then):
        assert then
        assert then.id == "batch_2"


async def test_results_of_an_open_batch_stay(store_pool: Pool) -> None:
    await a_file(store_pool)
    batch = await a_batch(store_pool)
    await start_batch(store_pool, batch.id, 1)
    headers = {"infaas-mode": "offline"}
    job = NewJob(
        id="job-1", model="m", task="t", offline=True, headers=headers, request=b"{}", batch=batch.id, fingerprint=b"f"
    )
    await put_jobs(store_pool, [[job]])
    async with claiming_batch(store_pool) as (_, none):
        pass
    assert none
    assert none.stored == 0, "its line is to be stored"
    await end_jobs(store_pool, [failed("job-1", InvalidRequest("no"))])
    assert await prune_results(store_pool, 0, 10) == await prune_jobs(store_pool, 0, 10) == 0
    await end_batch(store_pool, batch.id, BatchStatus.COMPLETED, (0, 1), (None, None), datetime.now(UTC))
    assert await prune_results(store_pool, 0, 10) == await prune_jobs(store_pool, 0, 10) == 1


async def test_put_failed_lines_is_idempotent(store_pool: Pool) -> None:
    await a_file(store_pool)
    batch = await a_batch(store_pool)
    line = BatchLine(custom_id="a", method="POST", url="/v1/embeddings", body=b"{}")  # pyright: ignore[reportArgumentType]
    for job_id in ("job-1", "job-2"):
        found = failed_line(job_id, batch.id, 3, line, InvalidRequest("$.model: no"))
        assert found.key == sha256(b"batch_1\x003").digest()
        await put_failed_lines(store_pool, batch, [found])
    (result,) = await line_results(store_pool, batch.id, "")
    assert (result.id, result.state, result.line.custom_id) == ("job-1", "failed", "a")
    assert await line_results(store_pool, batch.id, "job-1") == []
    (row,) = await list_batches(store_pool, "acme")
    assert (row.completed, row.failed) == (0, 1)


async def test_batches_of_tasks_are_those_without_lines_of_others(store_pool: Pool) -> None:
    async def seen(*tasks: str) -> list[str]:
        return [row.id for row in await list_batches(store_pool, "acme", tasks=tasks, limit=9)]

    await a_file(store_pool)
    await a_batch(store_pool)
    restricted = Principal("key", "acme", frozenset({Role.QUERY}), frozenset({"digits"}))
    assert await put_batch(
        store_pool, "acme", NewBatch("batch_0", restricted, "file-1", "/v1/embeddings", "1m", 60.0, None)
    )
    assert await seen("digits", "other") == ["batch_0"], "the lines of batch_1 are not known yet"
    assert await seen("other") == []
    headers = {h.TENANT: "acme"}
    jobs = [
        NewJob(id=task, model=task, task=task, offline=True, headers=headers, request=b"{}", batch="batch_1")
        for task in ("digits", "secret")
    ]
    await put_jobs(store_pool, [jobs])
    await start_batch(store_pool, "batch_1", 2)
    await advance_batch(store_pool, "batch_1", 2, 10)
    assert await seen("digits", "secret") == ["batch_1", "batch_0"]
    assert await seen("digits") == ["batch_0"]
