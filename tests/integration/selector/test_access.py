"""Tests of access through gateway and selector: a hidden object is answered as a missing one.

Whole responses are compared. A hidden object never answers, is never named, and is in no list.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import aiohttp
import pytest

from broker.kafka.topics import ensure_task_topics
from broker.producing.producer import Producer
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from schemas import headers as h
from schemas.access import EVERY_TENANT, PUBLIC, Access, Visibility
from schemas.rows.catalog import Architecture, Task
from schemas.topics import variant_topics
from store.catalog import CatalogWatcher
from store.registry import put_architecture, put_task, put_variant
from store.tenants import set_access
from tests.example_rows import INPUT, OUTPUT
from tests.integration.gateway.responder import answering_at, doubled
from tests.integration.gateway.test_inference import json_body
from tests.integration.selector.stage import Stage, reply_to, selecting
from tests.unit.selector.story import profile, variant
from tests.waiting import PATIENCE_S, read_until

SHARED = Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex"}))
PRIVATE = Access(owner="acme", visibility=Visibility.PRIVATE)
MISSING = "none"
STRANGERS: list[str | None] = ["initech", None, "invented-name"]


class Answer(NamedTuple):
    """A response without the parts that differ from one request to the next."""

    status: int
    headers: dict[str, str]
    body: bytes

    def without(self, *names: str) -> "Answer":
        """Return the response without these names and without predicted latencies, which change with each status."""
        body = re.sub(rb'"predicted_ms":[\d.]+', b'"predicted_ms":0', self.body)
        headers = str(sorted(self.headers.items()))
        for name in names:
            body, headers = body.replace(name.encode(), b"NAME"), headers.replace(name, "NAME")
        return Answer(self.status, {"all": headers}, body)


class Front(NamedTuple):
    """A gateway and a selector in front of a stage, with a model shared with one tenant and a private task."""

    stage: Stage
    url: str
    http: aiohttp.ClientSession
    models: ModelDirectory
    catalogs: CatalogWatcher
    hidden_task: str

    async def ask(self, method: str, path: str, tenant: str | None, body: bytes | None = None) -> Answer:
        headers = {} if tenant is None else {h.TENANT: tenant}
        async with self.http.request(method, self.url + path, data=body, headers=headers) as response:
            kept = {
                name: text
                for name, text in response.headers.items()
                if name not in ("Date", "Content-Length") and not name.lower().endswith(("-ns", "infaas-id"))
            }
            return Answer(response.status, kept, await response.read())

    async def infer(self, name: str, tenant: str | None, **needs: Any) -> Answer:
        return await self.ask("POST", f"/v2/models/{name}/infer", tenant, json_body(**needs))

    async def set_access(self, name: str, access: Access) -> None:
        await set_access(self.stage.pool, name, access)
        async with asyncio.timeout(PATIENCE_S):
            while self.catalogs.current.access.get(name, PUBLIC) != access:
                await self.catalogs.changed()
        self.models.update(self.catalogs.current)


@pytest.fixture
async def front(stage: Stage) -> AsyncGenerator[Front]:
    """The better model of the stage's task is shared with one tenant; a further task is private, with its model."""
    hidden = f"p{stage.task}"
    await put_task(stage.pool, Task(name=hidden, inputs=(INPUT,), outputs=(OUTPUT,), partitions=1))
    row = Architecture(name=f"m{hidden}", task=hidden, source="0" * 64, source_format="onnx")
    await put_architecture(stage.pool, row)
    name = f"m{hidden}.onnx-fp32.cpu"
    await put_variant(stage.pool, variant(name, task=hidden, partitions=1), profile(name))
    await ensure_task_topics(stage.kafka, hidden, 1)
    await set_access(stage.pool, stage.good.split(".")[0], SHARED)
    await set_access(stage.pool, hidden, PRIVATE)
    topics = [topic for name in (stage.cheap, stage.good) for topic in variant_topics(name)]

    def answer(asked: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
        content, headers = doubled(asked, value)
        return content, headers | {h.VARIANT: asked[h.VARIANT]}

    async with answering_at(stage.kafka, topics, answer), selecting(stage), CatalogWatcher(stage.dsn) as catalogs:
        models = ModelDirectory(catalogs.current)
        opened = open_gateway(GatewaySettings(port=0), stage.kafka, models, stage.dsn, asyncio.Event())
        async with opened as (url, _), aiohttp.ClientSession() as http:
            yield Front(stage, url, http, models, catalogs, hidden)


REQUESTS = [
    *(("GET", f"/v2/models/{{}}{path}") for path in ("", "/ready", "/config", "/stats", "/jobs", "/jobs/j1")),
    *(("GET", f"/v2/models/{{}}/versions/1{path}") for path in ("", "/ready", "/config", "/stats")),
    ("GET", "/v2/models/{}/versions/7"),
    ("GET", "/v2/models/{}/jobs/j1/result"),
    ("DELETE", "/v2/models/{}/jobs/j1"),
    ("POST", "/v2/models/{}/jobs"),
    ("POST", "/v2/models/{}/infer"),
    ("POST", "/v2/models/{}/infer?latency_ms=500"),
    ("POST", "/v2/models/{}/versions/1/infer"),
    ("POST", "/v2/repository/models/{}/load"),
    ("POST", "/v2/repository/models/{}/unload"),
    ("PUT", "/v2/models/{}"),
]


async def test_hidden_names_answer_as_missing_on_all_routes(front: Front) -> None:
    """Compares whole responses for each route and each kind of name, with and without a tenant."""
    good, hidden = front.stage.good, front.hidden_task
    names = [good, good.split(".")[0], hidden, f"m{hidden}", f"m{hidden}.onnx-fp32.cpu"]
    for name in names:
        missing = name.replace(good.split(".")[0], MISSING).replace(hidden, MISSING)
        for method, path in REQUESTS:
            body = json_body() if method == "POST" else None
            for tenant in STRANGERS:
                found = await front.ask(method, path.format(name), tenant, body)
                other = await front.ask(method, path.format(missing), tenant, body)
                assert found.without(name) == other.without(missing), (method, path, name, tenant)
                assert found.status in (200, 404, 405)
                assert found.status != 200 or json.loads(found.body) == {"jobs": [], "next": None}


async def test_hidden_target_answers_as_missing_in_all_modes(front: Front) -> None:
    good = front.stage.good
    for name in (good, good.split(".")[0], f"{good.split('.')[0]}@1"):
        missing = name.replace(good.split(".")[0], MISSING)
        for needs in ({}, {"mode": "offline"}, {"explain": True}, {"latency_ms": 5000}):
            found = await front.infer(front.stage.task, None, target=name, **needs)
            other = await front.infer(front.stage.task, None, target=missing, **needs)
            assert found.without(name) == other.without(missing)
            assert (found.status, found.headers[h.STATUS]) == (404, "unknown_task")


async def test_lists_stats_and_hints_name_only_usable_models(front: Front) -> None:
    stage = front.stage
    names = {stage.good: {"acme", "globex"}, front.hidden_task: {"acme"}}
    for tenant in ("acme", "globex", *STRANGERS):
        index = await front.ask("POST", "/v2/repository/index", tenant)
        stats = await front.ask("GET", "/v2/models/stats", tenant)
        hint = await front.infer(stage.task, tenant, min_accuracy=0.99, explain=True)
        assert hint.status == 422
        for name, may in names.items():
            assert (name.encode() in index.body) == (name.encode() in stats.body) == (tenant in may)
        assert (stage.good.encode() in hint.body) == (tenant in names[stage.good])


async def test_shared_variant_answers_only_permitted_tenants(front: Front, client: Producer) -> None:
    """The best variant is shared with one tenant, with the same effect over HTTP and over Kafka."""
    stage = front.stage
    for tenant in ("acme", "globex"):
        for name in (stage.task, stage.good.split(".")[0]):
            answer = await front.infer(name, tenant, min_accuracy=0.85, latency_ms=20_000)
            assert (answer.status, answer.headers.get(h.VARIANT)) == (200, stage.good), answer.body
    for tenant in STRANGERS:
        answer = await front.infer(stage.task, tenant, latency_ms=20_000, explain=True)
        assert (answer.status, answer.headers[h.VARIANT]) == (200, stage.cheap)
        assert stage.good.encode() not in answer.body
        assert (await front.infer(stage.task, tenant, min_accuracy=0.85)).status == 422
    said = {}
    for tenant in ("globex", "initech"):
        query_id = await stage.ask(client, json_body(), min_accuracy="0.85", latency_ms="20000", tenant=tenant)
        said[tenant] = (await reply_to(stage, query_id))[h.STATUS]
    assert said == {"globex": "ok", "initech": "unsatisfiable"}


async def test_hidden_task_is_unknown_over_kafka(front: Front, client: Producer) -> None:
    """A client may know the topic from earlier; the answer tells it nothing more."""
    stage, answers = front.stage, dict[str | None, str]()
    for tenant in ("initech", None):
        sent: dict[str, Any] = {} if tenant is None else {"tenant": tenant}
        query_id = await stage.ask(client, json_body(), task=front.hidden_task, **sent)
        answers[tenant] = (await reply_to(stage, query_id))[h.STATUS]
    assert answers == {"initech": "unknown_task", None: "unknown_task"}


async def test_access_change_reaches_gateway_and_selectors(front: Front) -> None:
    stage, model = front.stage, front.stage.good.split(".")[0]
    assert (await front.ask("GET", f"/v2/models/{model}", "initech")).status == 404
    await front.set_access(model, Access(owner="acme"))
    assert (await front.ask("GET", f"/v2/models/{model}", "initech")).status == 200

    async def answered_by() -> str | None:
        answer = await front.infer(stage.task, "initech", min_accuracy=0.85, latency_ms=20_000)
        return answer.headers.get(h.VARIANT)

    await read_until(answered_by, lambda found: found == stage.good)  # each selector follows the catalog by itself
    await front.set_access(model, PRIVATE)
    assert (await front.ask("GET", f"/v2/models/{model}", "globex")).status == 404
    await read_until(answered_by, lambda found: found is None)


async def test_jobs_belong_to_tenant(front: Front) -> None:
    path = f"/v2/models/{front.stage.task}/jobs"
    made = json.loads((await front.ask("POST", path, "acme", json_body())).body)["id"]
    own = json.loads((await front.ask("POST", path, None, json_body())).body)["id"]
    assert (await front.ask("GET", f"{path}/{made}", "acme")).status == 200
    assert (await front.ask("GET", f"{path}/{own}", None)).status == 200
    listed = {
        tenant: {job["id"] for job in json.loads((await front.ask("GET", path, tenant)).body)["jobs"]}
        for tenant in ("acme", "globex", None, EVERY_TENANT)
    }
    assert listed == {"acme": {made}, "globex": set(), None: {own}, EVERY_TENANT: {own}}, "nobody is all by saying so"
    for method, rest in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        for tenant in ("globex", None):
            found = await front.ask(method, f"{path}/{made}{rest}", tenant)
            missing = await front.ask(method, f"{path}/none{rest}", tenant)
            assert found.without(made) == missing.without("none")
            assert found.status == 404
