"""Tests of notices of ended jobs: webhooks, and results sent to a topic."""

import base64
import hmac
import json
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

from broker.fetch.tail import Tail
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import KafkaError, NotAllowed
from broker.producing import topic_lookup
from broker.producing.producer import Producer
from gateway.jobs.settings import JobsSettings
from gateway.settings import GatewaySettings
from schemas.defaults import LOOPBACK
from schemas.headers import as_text
from schemas.jobs import JobState
from tests.doc_commands import block, exported
from tests.integration.gateway.jobs.conftest import QUICK, Office, jobs_service
from tests.integration.gateway.test_inference import json_body
from tests.waiting import read_until

TRACE: Final[dict[str, Any]] = {"traceparent": f"00-{'7' * 32}-{'5' * 16}-01", "tracestate": "mine=7"}
"""Trace context of a job's client."""


class Call(NamedTuple):
    headers: CIMultiDictProxy[str]
    body: bytes


class Hook:
    """Webhook whose port is reserved before any job names it."""

    def __init__(self, door: socket.socket, folder: Path) -> None:
        self._door = door
        self.host = f"localhost:{door.getsockname()[1]}"
        own = {"hooks.example.com": self.host, "*.example.org": "127.0.0.1:1"}
        found = exported(block("docs/jobs.md#1"), folder, own)
        self.allowed: dict[str, Any] = {
            "INFAAS_WEBHOOK_HOSTS": json.loads(found["INFAAS_WEBHOOK_HOSTS"]), "INFAAS_WEBHOOK_PLAIN_HTTP": True
        }  # fmt: skip
        secret, networks = found["INFAAS_JOBS_WEBHOOK_SECRET"], ("127.0.0.0/8", "::1/128")
        self.key = base64.b64decode(secret.removeprefix("whsec_"))
        self.heard = JobsSettings.model_validate(
            QUICK.model_dump(exclude_unset=True)
            | self.allowed
            | {"webhook_secret": secret, "webhook_networks": networks}
        )

    @asynccontextmanager
    async def listening(self, answer: Callable[[int], web.Response]) -> AsyncGenerator[list[Call]]:
        """Serve the webhook: `answer` makes the response to the n-th call. Yields the calls."""
        calls = list[Call]()

        async def handle(request: web.Request) -> web.Response:
            calls.append(Call(request.headers, await request.read()))
            return answer(len(calls))

        app = web.Application()
        app.add_routes([web.post("/hook", handle)])
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.SockSite(runner, self._door).start()
            yield calls
        finally:
            await runner.cleanup()


@pytest.fixture
def hook(tmp_path: Path) -> Generator[Hook]:
    """Return a webhook with the settings of `docs/jobs.md`."""
    with socket.create_server((LOOPBACK, 0)) as door:
        yield Hook(door, tmp_path)


@pytest.fixture
def gateway_settings(hook: Hook) -> GatewaySettings:
    return GatewaySettings(port=0, **hook.allowed)


async def told(office: Office, job_id: str, state: str) -> Any:
    """Wait until the notice of a job has this state; return the notice."""
    job = await read_until(lambda: office.status(job_id), lambda job: job["notice"]["state"] == state)
    return job["notice"]


async def test_webhook_is_signed_and_retried_until_success(office: Office, hook: Hook) -> None:
    async with (
        hook.listening(lambda n: web.Response(status=500 if n < 3 else 204)) as calls,
        jobs_service(office, hook.heard),
    ):
        job_id = (await office.submit(query=f"?webhook=http://{hook.host}/hook", **TRACE))["id"]
        notice = await told(office, job_id, "delivered")
    assert (notice["attempts"], len(calls)) == (3, 3)
    assert all(TRACE.items() <= dict(call.headers).items() for call in calls)
    assert len({call.body for call in calls}) == 1
    headers, body = calls[-1]
    signed = f"{job_id}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.new(hook.key, signed, sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    event = json.loads(body)
    assert (event["id"], headers["webhook-id"], event["type"]) == (job_id, job_id, "io.infaas.job.succeeded")
    assert event["data"]["result"] == f"/v2/models/{office.task}/jobs/{job_id}/result"


async def test_webhook_redirect_is_not_followed(office: Office, hook: Hook) -> None:
    async with (
        hook.listening(lambda n: web.Response(status=302 if n == 1 else 410, headers={"Location": "/hook"})) as calls,
        jobs_service(office, hook.heard),
    ):
        job_id = (await office.submit(query=f"?webhook=http://{hook.host}/hook"))["id"]
        notice = await told(office, job_id, "failed")
    assert len(calls) == 2, "the second is another attempt"
    assert notice["error"] == "it answered 410"


async def test_webhook_at_private_address_is_not_called(office: Office, hook: Hook) -> None:
    public_only = hook.heard.model_copy(update={"webhook_networks": (), "webhook_attempts": 1})
    async with hook.listening(lambda _: web.Response()) as calls, jobs_service(office, public_only):
        for host in (hook.host, "127.0.0.1:1"):
            job_id = (await office.submit(query=f"?webhook=http://{host}/hook"))["id"]
            notice = await told(office, job_id, "failed")
            assert "may go to" in notice["error"] or "may not go to" in notice["error"]
    assert calls == []


async def test_submit_refuses_forbidden_webhook_and_reply_topic(office: Office, hook: Hook) -> None:
    async with office.http.post(f"{office.jobs_url}?webhook=http://localhost:1/hook", data=b"[]") as answer:
        assert answer.status == 400, "there is no job"
    async with office.http.post(f"{office.jobs_url}?webhook=http://localhost:1/hook", data=b"{}") as answer:
        assert answer.status == 403
        assert "may not go to localhost:1" in (await answer.json())["error"]
    for query, topic in (("", "infaas.jobs"), ("", "infaas.tasks.digits"), (f"?webhook=http://{hook.host}/", "mine")):
        async with office.http.post(office.jobs_url + query, data=b"{}", headers={"infaas-reply-to": topic}) as answer:
            assert answer.status == 400
            assert "infaas-reply-to" in (await answer.json())["error"]
    assert await office.number(JobState.QUEUED) == 0


async def test_notice_sends_result_to_reply_topic(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_lookup, "METADATA_S", 0.1)
    topic = f"mine-{uuid4().hex[:8]}"
    await ensure_topics(office.kafka, [TopicSpec(topic)])
    async with Tail(office.kafka, "mine", [topic]) as tail, jobs_service(office):
        ids = {(await office.submit(infaas_reply_to=topic, **TRACE))["id"] for _ in range(2)}
        found = dict[str, dict[str, str]]()
        while found.keys() != ids:
            for record in await tail.poll():
                fields = as_text(record.headers)
                found[fields["infaas-id"]] = fields | {"value": (record.value or b"").decode()}
        for job_id in ids:
            await told(office, job_id, "delivered")
        missing = (await office.submit(infaas_reply_to=f"{topic}-none"))["id"]
        assert "does not exist" in (await told(office, missing, "failed"))["error"]
    for fields in found.values():
        assert fields["infaas-status"] == "ok"
        assert TRACE.items() <= fields.items()
        assert json.loads(fields["value"])["outputs"][0]["data"] == [0.0, 2.0, 8.0, 10.0]


async def test_notice_of_job_without_result_has_trace_of_its_query(office: Office) -> None:
    topic = f"mine-{uuid4().hex[:8]}"
    await ensure_topics(office.kafka, [TopicSpec(topic)])
    job_id = (await office.submit(json_body(latency_ms=1), infaas_reply_to=topic, **TRACE))["id"]
    async with Tail(office.kafka, "mine", [topic]) as tail, jobs_service(office):
        await told(office, job_id, "delivered")
        (record,) = await tail.poll()
    fields = as_text(record.headers)
    assert fields["infaas-status"] == "deadline_exceeded"
    assert TRACE.items() <= fields.items()


async def test_notice_to_topic_is_retried_despite_kafka_errors(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, refusals = f"mine-{uuid4().hex[:8]}", iter(range(2))
    await ensure_topics(office.kafka, [TopicSpec(topic)])
    send = Producer.send_and_wait

    async def send_in_the_end(self: Producer, to: str, *args: Any, **options: Any) -> Any:
        if to == topic and next(refusals, None) is not None:
            raise KafkaError("it is away")
        return await send(self, to, *args, **options)

    monkeypatch.setattr(Producer, "send_and_wait", send_in_the_end)
    async with jobs_service(office, QUICK.model_copy(update={"webhook_attempts": 1})):
        notice = await told(office, (await office.submit(infaas_reply_to=topic))["id"], "delivered")
    assert notice["attempts"] == 3


async def test_notice_to_forbidden_topic_is_not_retried(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Producer.send_and_wait

    async def send_if_allowed(self: Producer, to: str, *args: Any, **options: Any) -> Any:
        if to == "theirs":
            raise NotAllowed(to)
        return await send(self, to, *args, **options)

    monkeypatch.setattr(Producer, "send_and_wait", send_if_allowed)
    async with jobs_service(office):
        notice = await told(office, (await office.submit(infaas_reply_to="theirs"))["id"], "failed")
    assert (notice["attempts"], notice["error"]) == (1, "the system may not write to the topic theirs")
