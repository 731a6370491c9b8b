"""Tests of jobs services that are killed: every sent query is answered, and each job ends once."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from math import nan
from pathlib import Path

import pytest

from broker.delivery.consumer import Consumer
from broker.kafka.topics import ensure_task_topics
from broker.producing import topic_lookup
from broker.producing.producer import Producer
from gateway.jobs.cleanup import JobCleanup
from gateway.jobs.delivery import JobSender, ResultWriter
from gateway.jobs.outcomes import failed, read_end
from schemas import headers as h
from schemas.errors import Internal
from schemas.jobs import JobEnd, JobState, NewJob
from schemas.result import error_value
from schemas.rows.samples import LagReading
from schemas.topics import JOB_RESULTS, offline_topic, task_topic, variant_topics
from store.jobs import claiming_due_jobs, end_jobs, get_job_result, lost_jobs, mark_sent, put_jobs, retry_jobs
from store.samples import group_partition_ids, present_s, write_reading
from tests.integration.gateway.jobs.conftest import QUICK, Office, jobs_service
from tests.integration.gateway.responder import VARIANT
from tests.processes import service, variables_of
from tests.store_queries import count_lock_waits
from tests.waiting import until

COUNT = 600


async def test_jobs_service_finishes_jobs_of_a_killed_one(office: Office, tmp_path: Path) -> None:
    env = variables_of(office.kafka, office.dsn, tmp_path) | {"INFAAS_JOBS_BATCH": "20"}
    few_at_once = QUICK.model_copy(update={"batch": 20})
    async with service("gateway.jobs", env=env) as first, jobs_service(office, few_at_once):
        ids = await office.submit_many(COUNT)
        await until(lambda: len(office.responder.seen) >= COUNT // 4)
        first.kill()
        await office.all_in(JobState.SUCCEEDED, ids)
    asked = Counter(seen[h.ID] for seen in office.responder.seen)
    assert asked.keys() == set(ids)


async def test_sending_jobs_of_killed_service_are_due_again(office: Office) -> None:
    ids = await office.submit_many(3)

    async def killed_while_it_sends() -> None:
        async with claiming_due_jobs(office.pool, 10, 10**6) as (_, jobs):
            assert sorted(job.id for job in jobs) == sorted(ids)
            async with claiming_due_jobs(office.pool, 10, 10**6) as (_, others):
                assert others == [], "somebody has them"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await killed_while_it_sends()
    async with claiming_due_jobs(office.pool, 10, 1) as (session, jobs):
        assert len(jobs) == 1, "one at least, whatever its size"
        await mark_sent(session, [job.id for job in jobs])
    assert await office.number(JobState.RUNNING) == 1


async def test_retry_jobs_waits_for_the_commit_of_sent(office: Office) -> None:
    """Otherwise the job would stay running although its answer was already read."""
    (job_id,) = await office.submit_many(1)
    async with asyncio.TaskGroup() as tasks, claiming_due_jobs(office.pool, 10, 10**6) as (session, _):
        await mark_sent(session, [job_id])
        again = tasks.create_task(retry_jobs(office.pool, [job_id], 10, 60.0))

        async def waits_or_ended() -> bool:
            return again.done() or await count_lock_waits(office.pool) == 1

        await until(waits_or_ended)
    assert again.result() == [job_id]
    assert await office.number(JobState.QUEUED) == 1


async def test_end_jobs_keeps_first_end(office: Office) -> None:
    (job_id,) = await office.submit_many(1)
    ok = await answer_to(office, job_id, "ok", b"{}")
    assert await end_jobs(office.pool, [ok, failed(job_id, Internal("later"))]) == [job_id]
    assert await end_jobs(office.pool, [ok, failed(job_id, Internal("late"))]) == []
    found = await get_job_result(office.pool, job_id)
    assert found is not None
    assert (found.state, found.result) == (JobState.SUCCEEDED, b"{}")
    assert await retry_jobs(office.pool, [job_id], 10, 1.0) == []


async def answer_to(office: Office, job_id: str, status: str, value: bytes) -> JobEnd:
    """Return a result of a job's query, with its correlation."""
    query = "SELECT headers ->> 'infaas-correlation' FROM jobs WHERE id = $1"
    correlation = await office.pool.fetch_value(str, query, job_id) or ""
    return read_end({h.ID: job_id, h.STATUS: status, h.CORRELATION: correlation}, value)


async def on_its_way(office: Office, count: int) -> list[str]:
    """Submit jobs and mark their queries as sent; nobody answers them."""
    ids = await office.submit_many(count)
    async with claiming_due_jobs(office.pool, count, 10**6) as (session, _):
        await mark_sent(session, ids)
    return ids


async def test_result_writer_counts_reread_transient_error_once(office: Office) -> None:
    ids = await on_its_way(office, 2)
    busy, other = [await answer_to(office, job_id, "overloaded", error_value("busy")) for job_id in ids]
    writer = ResultWriter(office.pool, Consumer(office.kafka, "test", group="test"), 2, 60.0, lambda: None)
    for _ in range(2):  # as after an outage of Postgres, or by the partition's next owner
        await writer.write([busy])
    assert await office.number(JobState.QUEUED) == 1
    await writer.write([other, await answer_to(office, ids[1], "ok", b"{}")])
    assert await office.number(JobState.SUCCEEDED) == 1, "an answer counts, whatever came before it"

    await office.pool.execute("UPDATE jobs SET send_at = now() WHERE state = 'queued'")
    async with claiming_due_jobs(office.pool, 10, 10**6) as (session, jobs):
        await mark_sent(session, [job.id for job in jobs])
    await writer.write([busy])
    assert await office.number(JobState.FAILED) == 1, "it was sent as often as may be"


async def test_job_sender_waits_for_missing_task_topic(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_lookup, "METADATA_S", 0.1)
    monkeypatch.setattr(topic_lookup, "MISSING_FOR_S", 0.1)
    job = NewJob(id="1", model="m", task=f"new-{office.task}", offline=True, headers={}, request=b"{}")
    await put_jobs(office.pool, [[job]])
    async with Producer(office.kafka, "test") as producer:
        sender = JobSender(office.pool, producer, 10, 1.0)
        assert await sender.send_due() == 1
        assert await office.number(JobState.QUEUED) == 1, "a broker that starts may not know its topics yet"
        await ensure_task_topics(office.kafka, job.task, 1)

        async def sent() -> bool:
            await office.pool.execute("UPDATE jobs SET send_at = now()")
            await sender.send_due()
            return await office.number(JobState.RUNNING) == 1

        await until(sent)


async def test_cleanup_ends_lost_job_after_max_attempts(office: Office) -> None:
    (job_id,) = await on_its_way(office, 1)
    cleanup = JobCleanup(office.pool, QUICK.model_copy(update={"max_attempts": 1}), lambda: None)
    await cleanup.resend([job_id])
    job = await office.status(job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "internal")
    assert "1 time" in job["error"]["message"]


async def test_lost_jobs_need_known_zero_lag_of_all_topics(office: Office) -> None:
    topics = [task_topic(office.task), offline_topic(office.task), *variant_topics(VARIANT), JOB_RESULTS]
    numbers = await group_partition_ids(office.pool, [("group", topic, 0) for topic in topics])
    old, new = await office.submit_many(2)
    async with claiming_due_jobs(office.pool, 10, 10**6) as (session, _):
        await mark_sent(session, [old, new])
    await office.pool.execute("UPDATE jobs SET sent_at = now() - interval '2 minutes' WHERE id = $1", old)

    async def lost(*lags: int) -> list[str]:
        at = datetime.fromtimestamp(await present_s(office.pool), UTC)
        count = len(numbers)
        await write_reading(
            office.pool,
            LagReading(
                at=at, whole=True, group_partitions=numbers, end_offsets=[9] * count, committed=[9] * count,
                lags=list(lags), since_s=[nan] * count, healths=[1] * count,
            ),
        )  # fmt: skip
        return await lost_jobs(office.pool, 60.0, 10)

    assert await lost_jobs(office.pool, 60.0, 10) == [], "unknown is not nothing"
    for waiting in range(len(topics)):
        assert await lost(*(int(number == waiting) for number in range(len(topics)))) == []
    assert await lost(0, 0, 0, 0, -1) == []
    assert await lost(0, 0, 0, 0, 0) == [old]
    assert await retry_jobs(office.pool, [old], 10, 0.0) == [old]
    assert await office.number(JobState.QUEUED) == 1
