"""Tests of jobs over HTTP, from submission to result."""

import json

import numpy as np
import pytest

from gateway.settings import GatewaySettings
from schemas import headers as h
from schemas.errors import Overloaded, Unsatisfiable
from schemas.jobs import JobState
from schemas.oip import decode_response, encode_request
from schemas.topics import JOB_RESULTS, offline_topic, task_topic
from tests.integration.gateway.jobs.conftest import QUICK, Office, jobs_service
from tests.integration.gateway.responder import VARIANT, doubled
from tests.integration.gateway.test_inference import X, json_body
from tests.store_queries import delete_task
from tests.waiting import until


async def test_job_is_stored_sent_and_answered(served: Office) -> None:
    served.responder.silent = True
    accepted = await served.submit()
    job_id = accepted["id"]
    assert accepted["location"] == f"/v2/models/{served.task}/jobs/{job_id}"
    await until(lambda: len(served.responder.seen) == 1)
    status, content = await served.get(f"/{job_id}/result")
    assert status == 409
    assert "once it has ended" in content["error"]
    asked = served.responder.seen[0]
    assert (asked[h.ID], asked[h.REPLY_TO], asked[h.MODE]) == (job_id, JOB_RESULTS, "offline")
    assert h.LATENCY_MS not in asked
    assert served.responder.topics == [offline_topic(served.task)]

    await served.responder.answer_late()
    job = await served.ended(job_id)
    assert (job["state"], job["variant"], job["cost"], job["attempts"]) == ("succeeded", VARIANT, 0.001, 1)
    assert job["result"] == f"{accepted['location']}/result"
    async with served.http.get(served.url + job["result"]) as answer:
        assert answer.status == 200
        assert answer.headers[h.VARIANT] == VARIANT
        content = await answer.json()
    assert content["id"] == "mine"
    assert content["outputs"][0]["data"] == [0.0, 2.0, 8.0, 10.0]


async def test_binary_job_has_binary_result(served: Office) -> None:
    value, length, _ = encode_request({"x": X})
    job = await served.ended((await served.submit(value, inference_header_content_length=str(length)))["id"])
    async with served.http.get(served.url + job["result"]) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        found = decode_response(await answer.read(), length)
    assert np.array_equal(found.outputs["y"], X[:, :2] * 2)


async def test_many_jobs_are_stored_and_listed_by_pages(served: Office) -> None:
    listed = json.dumps([json.loads(json_body()) for _ in range(3)]).encode()
    as_list = await served.submit(listed)
    ids = await served.submit_many(250)
    assert len(set(ids)) == 250
    await served.all_in(JobState.SUCCEEDED, [*ids, *as_list["ids"]])

    seen, before = list[str](), ""
    while before is not None:
        _, page = await served.get(f"?limit=100&state=succeeded{before and f'&before={before}'}")
        seen += [job["id"] for job in page["jobs"]]
        before = page["next"]
    assert seen == sorted([*ids, *as_list["ids"]], reverse=True)
    async with served.http.get(served.url + as_list["location"]) as answer:
        assert sorted(job["id"] for job in (await answer.json())["jobs"]) == sorted(as_list["ids"])


async def test_submit_refuses_invalid_jobs(office: Office) -> None:
    for body, kind, said in (
        (json_body() + b"\n{}\n", "application/x-ndjson", "job 2 of 2"),
        (b"[]", "application/json", "no job"),
        (b"[{]", "application/json", "not valid"),
        (json_body(latency_sm=5), "application/json", "did you mean latency_ms"),
        (json_body(latency_ms=1e300), "application/json", "at most ten years"),
    ):
        async with office.http.post(office.jobs_url, data=body, headers={"content-type": kind}) as answer:
            assert answer.status == 400
            assert said in (await answer.json())["error"]
    assert await office.get("") == (200, {"jobs": [], "next": None})


async def test_submit_with_idempotency_key_creates_job_once(office: Office) -> None:
    first = await office.submit(Idempotency_Key="a")
    assert (await office.submit(Idempotency_Key="a"))["id"] == first["id"]
    assert (await office.submit(Idempotency_Key="b"))["id"] != first["id"]
    many = await office.submit(b"[%b,%b]" % (json_body(), json_body()), Idempotency_Key="a")
    assert await office.submit(b"[%b,%b]" % (json_body(), json_body()), Idempotency_Key="a") == many
    one, same = json_body(min_accuracy=0.5), json_body()
    for other in (one, b"[%b,%b,%b]" % (one, one, one), b"[%b]" % same, b"[%b,%b,%b]" % (same, same, same)):
        async with office.http.post(office.jobs_url, data=other, headers={"Idempotency-Key": "a"}) as answer:
            assert answer.status == 422
            assert "belongs to a different request" in (await answer.json())["error"]
    assert len((await office.get(""))[1]["jobs"]) == await office.number(JobState.QUEUED) == 4, "none of those is there"


async def test_cancelled_job_has_no_result(served: Office) -> None:
    served.responder.silent = True
    job_id = (await served.submit())["id"]
    await until(lambda: len(served.responder.seen) == 1)
    for _ in range(2):
        async with served.http.delete(f"{served.jobs_url}/{job_id}") as answer:
            assert answer.status == 200
            assert (await answer.json())["state"] == "cancelled"
    await served.responder.answer_late()
    other = await served.ended((await served.submit())["id"])  # its result arrives after that of the first
    assert (await served.status(job_id))["state"] == "cancelled"
    status, content = await served.get(f"/{job_id}/result")
    assert (status, "was cancelled" in content["error"]) == (410, True)
    async with served.http.delete(f"{served.jobs_url}/{other['id']}") as answer:
        assert answer.status == 409
        assert "succeeded already" in (await answer.json())["error"]


async def test_job_lookup_refuses_unknown_jobs_and_parameters(office: Office) -> None:
    job_id = (await office.submit())["id"]
    for path in (f"{office.jobs_url}/none", f"{office.url}/v2/models/mlp/jobs/{job_id}"):
        for url in (path, f"{path}/result"):
            async with office.http.get(url) as answer:
                assert answer.status == 404
                assert "no job" in (await answer.json())["error"]
    for path in ("?batch=%00", "?before=%00", "/%00", "/%00/result"):
        assert (await office.get(path))[0] == 400
    for path, said in (
        ("?state=null", "state must be one of queued, running, succeeded, failed, cancelled, not 'null'"),
        ("?state=", "state must be one of queued"),
        ("?stat=failed", "unknown parameter 'stat'; the parameters are state, batch, before, limit"),
        ("?state=failed&state=queued", "given twice"),
        ("?limit=null", "limit must be a number"),
    ):
        status, content = await office.get(path)
        assert (status, said in content["error"]) == (400, True), content
    async with office.http.get(f"{office.url}/v2/models/%00/jobs") as answer:
        assert answer.status == 400


async def test_job_retries_overload_and_fails_if_unsatisfiable(served: Office) -> None:
    def answer(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
        if fields.get(h.MIN_ACCURACY):
            raise Unsatisfiable("the nearest is mlp")
        if sum(seen[h.ID] == fields[h.ID] for seen in served.responder.seen) < 3:
            raise Overloaded("all are busy")
        return doubled(fields, value)

    served.responder.answer = answer
    patient, hopeless = await served.submit(), await served.submit(json_body(min_accuracy=0.99))
    job = await served.ended(patient["id"])
    assert (job["state"], job["attempts"]) == ("succeeded", 3)
    job = await served.ended(hopeless["id"])
    assert (job["state"], job["attempts"]) == ("failed", 1)
    assert job["error"] == {"code": "unsatisfiable", "message": "the nearest is mlp"}
    assert await served.get(f"/{hopeless['id']}/result") == (
        422,
        {"error": "the nearest is mlp", "reason": "needs_unsatisfiable"},
    )


async def test_job_deadline_counts_from_submission(office: Office) -> None:
    late = await office.submit(json_body(latency_ms=1))
    asked = await office.submit(json_body(latency_ms=60_000, mode="online"))
    async with jobs_service(office):
        job = await office.ended(late["id"])
        assert job["error"]["code"] == "deadline_exceeded"
        await office.ended(asked["id"])
    (seen,) = office.responder.seen
    assert office.responder.topics == [task_topic(office.task)]
    assert 0 < float(seen[h.LATENCY_MS]) < 60_000


async def test_running_job_ends_at_its_deadline(served: Office) -> None:
    served.responder.silent = True
    job = await served.ended((await served.submit(json_body(latency_ms=500)))["id"])
    assert job["error"]["code"] == "deadline_exceeded"
    assert (await served.get(f"/{job['id']}/result"))[0] == 504


async def test_jobs_of_unregistered_task_fail(office: Office) -> None:
    office.responder.silent = True
    ids = await office.submit_many(2)
    settings = QUICK.model_copy(update={"unregistered_s": 0.0, "tidy_interval_s": 0.1})
    async with jobs_service(office, settings):
        await until(lambda: len(office.responder.seen) == 2)
        assert await delete_task(office.pool, office.task)
        for job_id in ids:
            job = await office.ended(job_id)
            assert job["error"]["code"] == "unknown_task"
            assert "was unregistered before" in job["error"]["message"]


async def test_job_results_and_rows_are_deleted_after_retention(office: Office) -> None:
    settings = QUICK.model_copy(update={"result_retention_s": 0.1, "tidy_interval_s": 0.1})
    job_id = (await office.submit())["id"]
    async with jobs_service(office, settings):
        await office.ended(job_id)

        async def no_longer() -> bool:
            status, content = await office.get(f"/{job_id}/result")
            return status == 410 and "has expired" in content["error"]

        await until(no_longer)
        assert (await office.status(job_id))["state"] == "succeeded"
    async with jobs_service(office, settings.model_copy(update={"retention_s": 0.1})):

        async def forgotten() -> bool:
            return (await office.get(f"/{job_id}"))[0] == 404

        await until(forgotten)


class TestFull:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(port=0, max_jobs=3)

    async def test_submit_beyond_max_jobs_gets_retry_after(self, office: Office) -> None:
        await office.submit_many(2)
        body, headers = b"[%b,%b]" % (json_body(), json_body()), {"content-type": "application/json"}
        async with office.http.post(office.jobs_url, data=body, headers=headers) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) > 0
            assert "have not ended" in (await answer.json())["error"]
        async with jobs_service(office):

            async def taken() -> bool:
                async with office.http.post(office.jobs_url, data=body, headers=headers) as answer:
                    return answer.status == 202

            await until(taken)
