"""Tests of OpenAI's API with authentication: keys as bearer tokens, and tenants that see their own only."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import openai
import pytest
from openai import AsyncOpenAI

from gateway.service import open_gateway
from schemas import headers as h
from schemas.access import Role
from tests.integration.gateway.openai.conftest import OpenAiSystem, openai_client
from tests.integration.gateway.test_authentication import new_key
from tests.openai_tasks import vector_of
from tests.waiting import read_until

LINE = {"method": "POST", "url": "/v1/embeddings"}


@asynccontextmanager
async def guarded(system: OpenAiSystem) -> AsyncGenerator[str]:
    """Run a gateway that requires keys, and knows those there are; yield its URL."""
    settings = system.settings(auth=True)
    async with open_gateway(settings, system.kafka, system.models, system.dsn, asyncio.Event()) as (url, _):
        yield url


async def begin(client: AsyncOpenAI, task: str, lines: int = 1) -> tuple[str, str]:
    """Upload a file and begin its batch; return the ids of both."""
    line = LINE | {"body": {"model": task, "input": "one"}}
    content = "\n".join(json.dumps(line | {"custom_id": f"{number}"}) for number in range(lines)).encode()
    file = await client.files.create(file=("a.jsonl", content), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    return file.id, batch.id


async def test_missing_and_wrong_keys_have_openais_error(system: OpenAiSystem) -> None:
    for key in ("none", "infaas_000000000000_wrong"):
        async with guarded(system) as url, openai_client(url, key) as client:
            with pytest.raises(openai.AuthenticationError) as raised:
                await client.embeddings.create(model="any", input="a")
            assert raised.value.type == "authentication_error"
            with pytest.raises(openai.AuthenticationError):
                await client.files.list()


async def test_queries_belong_to_the_tenant_of_the_key(system: OpenAiSystem) -> None:
    key = str(await new_key(system.pool))
    async with guarded(system) as url, openai_client(url, key) as client:
        answer = await client.embeddings.create(model=system.task, input="one", extra_body={"tenant": "globex"})
        assert answer.data[0].embedding == pytest.approx(vector_of("one"))
    assert system.responder.seen[-1][h.TENANT] == "acme"


async def test_quota_is_openais_rate_limit(system: OpenAiSystem) -> None:
    key = str(await new_key(system.pool, per_second=0.01))
    async with guarded(system) as url, openai_client(url, key) as client:
        await client.embeddings.create(model=system.task, input="one")
        with pytest.raises(openai.RateLimitError) as raised:
            await client.embeddings.create(model=system.task, input="one")
        assert (raised.value.code, raised.value.type) == ("quota", "rate_limit_error")
        assert int(raised.value.response.headers["retry-after"]) > 0


async def test_tenants_see_their_own_files_and_batches(system: OpenAiSystem) -> None:
    keys = [str(await new_key(system.pool, tenant)) for tenant in ("acme", "globex")]
    keys.append(str(await new_key(system.pool, None, Role.ADMIN)))
    async with (
        guarded(system) as url,
        openai_client(url, keys[0]) as acme,
        openai_client(url, keys[1]) as globex,
        openai_client(url, keys[2]) as admin,
    ):
        file_id, batch_id = await begin(acme, system.task)
        batch = await read_until(lambda: acme.batches.retrieve(batch_id), lambda found: found.status == "completed")
        assert batch.output_file_id is not None
        answer = json.loads((await acme.files.content(batch.output_file_id)).text)
        assert answer["response"]["body"]["data"][0]["embedding"] == pytest.approx(vector_of("one"))
        assert system.responder.seen[-1][h.TENANT] == "acme"
        assert [file.id async for file in globex.files.list()] == []
        assert [one.id async for one in globex.batches.list()] == []
        for asked in (
            globex.files.retrieve(file_id),
            globex.files.content(batch.output_file_id),
            globex.files.delete(file_id),
            globex.batches.retrieve(batch_id),
            globex.batches.cancel(batch_id),
        ):
            with pytest.raises(openai.NotFoundError):
                await asked
        with pytest.raises(openai.BadRequestError, match="no file"):
            await globex.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
        assert (await admin.files.retrieve(file_id)).id == file_id
        assert batch_id in [one.id async for one in admin.batches.list()]


async def test_batch_enters_at_the_rate_of_its_key(system: OpenAiSystem) -> None:
    key = str(await new_key(system.pool, per_second=2.0))
    async with guarded(system) as url, openai_client(url, key) as client:
        _, batch_id = await begin(client, system.task, lines=5)
        batch = await read_until(lambda: client.batches.retrieve(batch_id), lambda found: found.status == "completed")
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 5
        ids = await system.pool.fetch_values(str, "SELECT id FROM jobs WHERE batch = $1", batch_id)
        assert len({UUID(one).int >> 80 for one in ids}) >= 3, "two lines at once, by the time in their ids"


async def test_lines_are_computed_with_the_rights_of_the_key(system: OpenAiSystem) -> None:
    key = str(await new_key(system.pool, tasks=["other"]))
    async with guarded(system) as url, openai_client(url, key) as client:
        _, batch_id = await begin(client, system.task)
        batch = await read_until(lambda: client.batches.retrieve(batch_id), lambda found: found.status == "completed")
        assert batch.error_file_id is not None
        error = json.loads((await client.files.content(batch.error_file_id)).text)
        assert error["response"]["status_code"] == 404
    assert system.responder.seen == []


async def test_keys_see_batches_of_their_tasks_only(system: OpenAiSystem) -> None:
    keys = [str(await new_key(system.pool, tasks=tasks)) for tasks in (None, [system.task], ["other"])]
    async with (
        guarded(system) as url,
        openai_client(url, keys[0]) as free,
        openai_client(url, keys[1]) as permitted,
        openai_client(url, keys[2]) as other,
    ):
        _, batch_id = await begin(free, system.task)
        await read_until(lambda: free.batches.retrieve(batch_id), lambda found: found.status == "completed")
        assert [one.id async for one in permitted.batches.list()] == [batch_id]
        assert (await permitted.batches.retrieve(batch_id)).id == batch_id
        assert [one.id async for one in other.batches.list()] == []
        for asked in (other.batches.retrieve(batch_id), other.batches.cancel(batch_id)):
            with pytest.raises(openai.NotFoundError):
                await asked
