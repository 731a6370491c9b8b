"""Jobs services that are killed: whatever was on its way is answered, and each job has one end."""

from collections import Counter
from datetime import UTC, datetime
from math import nan
from pathlib import Path

import pytest

from jobs.outcomes import failed, read_answer
from schemas import headers as h
from schemas.errors import Internal
from schemas.jobs import JobState
from schemas.rows.samples import LagReading
from schemas.topics import JOB_RESULTS, offline_topic, task_topic, variant_topics
from store.job_queue import end_jobs, lost_jobs, send_again, sending_jobs
from store.jobs import get_job_result
from store.samples import group_partition_ids, present_s, write_reading
from tests.integration.gateway.responder import VARIANT
from tests.integration.jobs.conftest import Office
from tests.processes import service, variables_of
from tests.waiting import until

COUNT = 600


async def test_two_services_share_the_work_and_one_is_killed(office: Office, tmp_path: Path) -> None:
    env = variables_of(office.kafka, office.dsn, tmp_path) | {"INFAAS_JOBS_BATCH": "20"}
    async with service("jobs", env=env) as first, service("jobs", env=env):
        ids = await office.submit_many(COUNT)
        await until(lambda: len(office.responder.seen) >= COUNT // 4)
        first.kill()
        await office.all_in(JobState.SUCCEEDED, ids)
    asked = Counter(seen[h.ID] for seen in office.responder.seen)
    assert asked.keys() == set(ids)


async def test_what_was_sent_by_one_that_was_killed_is_due_again(office: Office) -> None:
    ids = await office.submit_many(3)

    async def killed_while_it_sends() -> None:
        async with sending_jobs(office.pool, 10, 10**6) as sending:
            assert sorted(job.id for job in sending.jobs) == sorted(ids)
            async with sending_jobs(office.pool, 10, 10**6) as other:
                assert other.jobs == [], "somebody has them"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await killed_while_it_sends()
    async with sending_jobs(office.pool, 10, 1) as sending:
        assert len(sending.jobs) == 1, "one at least, whatever its size"
        await sending.sent([job.id for job in sending.jobs])
    assert await office.number(JobState.RUNNING) == 1


async def test_the_first_end_of_a_job_stays(office: Office) -> None:
    (job_id,) = await office.submit_many(1)
    ok, _ = read_answer({h.ID: job_id, h.STATUS: "ok"}, b"{}")
    assert await end_jobs(office.pool, [ok]) == [job_id]
    assert await end_jobs(office.pool, [ok, failed(job_id, Internal("late"))]) == []
    found = await get_job_result(office.pool, job_id)
    assert found is not None
    assert (found.state, found.result) == (JobState.SUCCEEDED, b"{}")
    assert await send_again(office.pool, [job_id], 10, 1.0) == []


async def test_a_job_of_which_kafka_holds_nothing_more_is_lost(office: Office) -> None:
    topics = [task_topic(office.task), offline_topic(office.task), *variant_topics(VARIANT), JOB_RESULTS]
    numbers = await group_partition_ids(office.pool, [("group", topic, 0) for topic in topics])
    old, new = await office.submit_many(2)
    async with sending_jobs(office.pool, 10, 10**6) as sending:
        await sending.sent([old, new])
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
    assert await send_again(office.pool, [old], 10, 0.0) == [old]
    assert await office.number(JobState.QUEUED) == 1
