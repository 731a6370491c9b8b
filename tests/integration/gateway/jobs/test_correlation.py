"""Tests of forged results, sent to `infaas.jobs` by plain aiokafka under the id of another client's job."""

import pytest
from aiokafka import AIOKafkaProducer

from gateway.jobs.outcomes import failed, read_end
from schemas import headers as h
from schemas.errors import Internal
from schemas.jobs import JobEnd, JobState
from schemas.topics import JOB_RESULTS
from store.jobs import claiming_due_jobs, end_jobs, mark_sent, retry_jobs
from tests.integration.gateway.jobs.conftest import Office
from tests.integration.gateway.test_inference import json_body
from tests.waiting import until


@pytest.mark.parametrize("status", ["ok", "unsatisfiable", "overloaded"])
async def test_result_without_correlation_ends_no_job(served: Office, status: str) -> None:
    served.responder.silent = True
    job_id = (await served.submit())["id"]
    await until(lambda: len(served.responder.seen) == 1)
    asked = served.responder.seen[0]
    async with AIOKafkaProducer(bootstrap_servers=served.kafka.bootstrap) as producer:
        for guessed in ([], [(h.CORRELATION, b"guessed")], [(h.CORRELATION, job_id.encode())]):
            forged = [(h.ID, job_id.encode()), (h.STATUS, status.encode()), *guessed]
            await producer.send_and_wait(JOB_RESULTS, b'{"error": "forged"}', headers=forged)
    await served.responder.answer_late()
    other = await served.submit(json_body())
    job = await served.ended(job_id)
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    assert (await served.get(f"/{job_id}/result"))[1]["outputs"]
    assert (await served.ended(other["id"]))["state"] == "succeeded"
    assert len(asked[h.CORRELATION]) >= 16, "96 random bits"


async def test_forged_result_does_not_hide_a_true_one(office: Office) -> None:
    job_ids = await office.submit_many(2)
    async with claiming_due_jobs(office.pool, 2, 10**6) as (session, jobs):
        correlations = {job.id: job.headers[h.CORRELATION] for job in jobs}
        await mark_sent(session, job_ids)
    assert len(set(correlations.values())) == 2
    assert await retry_jobs(office.pool, job_ids, 10, 60.0, ["", correlations[job_ids[0]]]) == []
    answers = list[JobEnd]()
    for job_id in job_ids:
        for correlation in ("", "guessed", correlations[job_id]):
            said = {h.ID: job_id, h.STATUS: "ok", h.CORRELATION: correlation}
            answers.append(read_end(said, correlation.encode()))
    assert await end_jobs(office.pool, answers[:2]) == []
    assert sorted(await end_jobs(office.pool, [*answers, failed(job_ids[0], Internal("later"))])) == sorted(job_ids)
    assert await office.number(JobState.SUCCEEDED) == 2
    kept = "SELECT count(*) FROM jobs WHERE convert_from(result, 'UTF8') = headers ->> 'infaas-correlation'"
    assert await office.pool.fetch_value(int, kept) == 2
