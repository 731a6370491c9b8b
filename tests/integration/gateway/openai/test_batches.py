"""Tests of files and batches, by OpenAI's own client."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from openai.types import Batch

from gateway.openai import batch_keeper
from gateway.service import open_gateway
from schemas.openai import BatchStatus
from schemas.topics import offline_topic
from store import batches as stored
from store.errors import StoreUnavailable
from tests.integration.gateway.openai.conftest import OpenAiSystem, openai_client
from tests.openai_tasks import REFUSED, vector_of
from tests.waiting import read_until, until

ENDED = ("failed", "completed", "expired", "cancelled")


def a_line(system: OpenAiSystem, custom_id: str, text: Any, **fields: Any) -> str:
    body = {"model": system.task, "input": text} | fields
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body})


async def upload(system: OpenAiSystem, lines: Sequence[str | bytes]) -> str:
    file = ("input.jsonl", b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return (await system.client.files.create(file=file, purpose="batch")).id


async def begin(system: OpenAiSystem, lines: Sequence[str | bytes], window: Any = "24h") -> Batch:
    file_id = await upload(system, lines)
    return await system.client.batches.create(
        input_file_id=file_id, endpoint="/v1/embeddings", completion_window=window, metadata={"run": "7"}
    )


async def ended(system: OpenAiSystem, batch: Batch) -> Batch:
    return await read_until(lambda: system.client.batches.retrieve(batch.id), lambda found: found.status in ENDED)


async def lines_of(system: OpenAiSystem, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    text = (await system.client.files.content(file_id)).text
    found = [json.loads(line) for line in text.splitlines()]
    by_id = {line["custom_id"]: line for line in found}
    assert len(by_id) == len(found), "each line is answered once"
    return by_id


async def test_files_are_stored_listed_and_deleted(encoder: OpenAiSystem) -> None:
    files = encoder.client.files
    first, second = await upload(encoder, ["first"]), await upload(encoder, ["second"])
    assert [file.id async for file in files.list()] == [second, first]
    assert [file.id async for file in files.list(order="asc", limit=1)] == [first, second], "page by page"
    assert [file.id async for file in files.list(purpose="batch_output")] == []
    found = await files.retrieve(first)
    assert (found.filename, found.bytes, found.purpose, found.status) == ("input.jsonl", 5, "batch", "processed")
    assert (await files.content(first)).text == "first"
    assert (await files.delete(first)).deleted
    with pytest.raises(openai.NotFoundError):
        await files.content(first)
    assert (await files.content(second)).text == "second"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after"),
        ({"expires_after": {"anchor": "now", "seconds": 7200}}, "expires_after"),
        ({"extra_body": {"region": "here"}}, "region"),
    ],
)
async def test_unfit_uploads_are_refused(encoder: OpenAiSystem, fields: dict[str, Any], param: str) -> None:
    asked: dict[str, Any] = {"file": ("a", b"{}"), "purpose": "batch"} | fields
    with pytest.raises(openai.BadRequestError) as raised:
        await encoder.client.files.create(**asked)
    assert raised.value.param == param
    assert [file.id async for file in encoder.client.files.list()] == []


async def test_files_expire_when_their_owner_wants(encoder: OpenAiSystem) -> None:
    after: Any = {"anchor": "created_at", "seconds": 7200}
    file = await encoder.client.files.create(file=("a", b"{}"), purpose="batch", expires_after=after)
    assert file.expires_at is not None
    assert file.expires_at - file.created_at == 7200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "multipart/form-data"}, 400),
        ({"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(2**40)}, 413),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 400),
    ],
)
async def test_malformed_forms_are_refused(encoder: OpenAiSystem, headers: dict[str, str], status: int) -> None:
    async with aiohttp.request("POST", f"{encoder.url}/v1/files", headers=headers, data=b"--y\r\n") as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def posted(encoder: OpenAiSystem, parts: Sequence[str], pieces: int) -> tuple[int, str]:
    """Send a form in pieces, each in a segment of its own; return the status and the answer."""
    form = "".join(f"--x\r\nContent-Disposition: form-data; name={part}" for part in parts) + "--x--\r\n"

    async def content() -> AsyncGenerator[bytes]:
        for at in range(0, len(form), max(len(form) // pieces, 1)):
            yield form[at : at + max(len(form) // pieces, 1)].encode()
            await asyncio.sleep(0.01)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with aiohttp.request("POST", f"{encoder.url}/v1/files", headers=headers, data=content()) as answer:
        return answer.status, await answer.text()


FILE = 'file; filename="a.jsonl"\r\n\r\n{}\r\n'
PURPOSE = "purpose\r\n\r\nbatch\r\n"


async def test_form_arrives_in_any_pieces(encoder: OpenAiSystem) -> None:
    for pieces in (1, 7, 150):
        status, text = await posted(encoder, [PURPOSE, FILE], pieces)
        assert (status, json.loads(text).get("bytes")) == (200, 2), text


async def test_form_with_two_files_is_refused(encoder: OpenAiSystem) -> None:
    status, text = await posted(encoder, [PURPOSE, FILE, FILE], 1)
    assert (status, json.loads(text)["error"]["param"]) == (400, "file"), text


async def test_batch_answers_every_line_once(system: OpenAiSystem) -> None:
    lines = [a_line(system, f"line-{number}", f"text {number}") for number in range(450)]
    lines[7] = a_line(system, "two", ["one", "two"], encoding_format="base64")
    lines[8] = a_line(system, "unknown", "x", model="absent")
    lines[9] = a_line(system, "failing", REFUSED)
    lines[10] = a_line(system, "needy", "x", latency_ms=5)
    batch = await ended(system, await begin(system, [*lines, ""]))
    assert (batch.status, batch.metadata) == (BatchStatus.COMPLETED, {"run": "7"})
    counts = batch.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (450, 447, 3)
    answers, errors = await lines_of(system, batch.output_file_id), await lines_of(system, batch.error_file_id)
    assert answers.keys() | errors.keys() == {json.loads(line)["custom_id"] for line in lines}
    response = answers["line-5"]["response"]
    assert response["status_code"] == 200
    assert response["body"]["data"][0]["embedding"] == pytest.approx(vector_of("text 5"))
    assert response["body"]["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert len(answers["two"]["response"]["body"]["data"]) == 2
    codes = {name: error["response"]["body"]["error"]["code"] for name, error in errors.items()}
    assert codes == {"unknown": "unknown_task", "failing": "model_failed", "needy": "invalid_request"}
    assert set(system.responder.topics) == {offline_topic(system.task)}
    assert [file.id async for file in system.client.files.list(purpose="batch_output")]


async def test_line_that_is_no_utf_8_fails_alone(system: OpenAiSystem) -> None:
    bad = a_line(system, "bad", "x").encode().replace(b'"model"', b'"mode": "\xff", "model"')
    batch = await ended(system, await begin(system, [a_line(system, "good", "x"), bad]))
    assert (await lines_of(system, batch.output_file_id)).keys() == {"good"}
    error = (await lines_of(system, batch.error_file_id))["bad"]["response"]["body"]["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "mode")


async def test_batch_with_a_defect_stops_no_other(system: OpenAiSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    read = batch_keeper.read_line

    def defective(line: bytes, endpoint: str) -> Any:
        if b"defect" in line:
            raise ZeroDivisionError
        return read(line, endpoint)

    monkeypatch.setattr(batch_keeper, "read_line", defective)
    stuck = await begin(system, [a_line(system, "defect", "x")])
    batch = await ended(system, await begin(system, [a_line(system, "good", "x")]))
    assert (await lines_of(system, batch.output_file_id)).keys() == {"good"}
    assert (await system.client.batches.retrieve(stuck.id)).status == BatchStatus.IN_PROGRESS
    monkeypatch.setattr(batch_keeper, "read_line", read)
    assert (await ended(system, stuck)).status == BatchStatus.COMPLETED


async def test_lines_of_unrecorded_jobs_are_written_once(
    encoder: OpenAiSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines have become jobs, and the batch is cancelled before that is recorded."""

    async def killed(*_: object) -> None:
        raise StoreUnavailable("the gateway is killed here")

    monkeypatch.setattr(stored, "advance_batch", killed)
    batch = await begin(encoder, [a_line(encoder, f"line-{number}", "x") for number in range(3)])
    count = "SELECT count(*) FROM jobs WHERE batch = $1"
    await read_until(lambda: encoder.pool.fetch_value(int, count, batch.id), lambda found: found == 3)
    await encoder.client.batches.cancel(batch.id)
    errors = await lines_of(encoder, (await ended(encoder, batch)).error_file_id)
    assert errors.keys() == {f"line-{number}" for number in range(3)}


async def test_batches_are_listed_latest_first(encoder: OpenAiSystem) -> None:
    made = [(await begin(encoder, [a_line(encoder, "a", "x")])).id for _ in range(3)]
    assert [batch.id async for batch in encoder.client.batches.list(limit=2)] == made[::-1]
    with pytest.raises(openai.NotFoundError):
        await encoder.client.batches.retrieve("batch_absent")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "truncated"),
        ('{"custom_id": "a"}', "missing required field"),
        ('{"custom_id": "b", "method": "GET", "url": "/v1/embeddings", "body": {}}', "$.method"),
        ('{"custom_id": "b", "method": "POST", "url": "/v1/responses", "body": {}}', "$.url"),
        (r'{"custom_id": "b", "method": "POST", "url": "\u0000", "body": {}}', "$.url"),
        (r'{"custom_id": "\u0000", "method": "POST", "url": "/v1/embeddings", "body": {}}', "$.custom_id"),
        ('{"custom_id": "first", "method": "POST", "url": "/v1/embeddings", "body": {}}', "more than once"),
    ],
)
async def test_batch_of_invalid_file_fails(encoder: OpenAiSystem, line: str, message: str) -> None:
    batch = await ended(encoder, await begin(encoder, [a_line(encoder, "first", "x"), line]))
    assert batch.status == BatchStatus.FAILED
    assert batch.errors is not None
    found = batch.errors.data or []
    assert len(found) == 1
    error = found[0]
    assert error.line == 2
    assert message in str(error.message)
    assert encoder.responder.seen == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"completion_window": "48h"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"input_file_id": "file-absent"}, "input_file_id"),
        ({"metadata": {"key": "v" * 600}}, "metadata"),
    ],
)
async def test_unfit_batches_are_refused(encoder: OpenAiSystem, fields: dict[str, Any], param: str) -> None:
    asked: dict[str, Any] = {
        "input_file_id": await upload(encoder, ["x"]),
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
    }
    with pytest.raises(openai.BadRequestError) as raised:
        await encoder.client.batches.create(**asked | fields)
    assert raised.value.param == param


async def test_window_of_a_batch_is_the_deadline_of_its_jobs(encoder: OpenAiSystem) -> None:
    batch = await begin(encoder, [a_line(encoder, "a", "x")], "90m")
    left = "SELECT extract(epoch FROM deadline_at - created_at)::float8 FROM jobs WHERE batch = $1"
    found = await read_until(
        lambda: encoder.pool.fetch_value(float, left, batch.id), lambda seconds: seconds is not None
    )
    assert found == pytest.approx(5400, abs=30)
    assert batch.expires_at is not None
    assert batch.expires_at - batch.created_at == 5400


async def test_batch_expires_with_what_it_has(system: OpenAiSystem) -> None:
    system.responder.silent = True
    batch = await ended(system, await begin(system, [a_line(system, "a", "x")], "2s"))
    assert (batch.status, batch.output_file_id) == (BatchStatus.EXPIRED, None)
    assert (await lines_of(system, batch.error_file_id))["a"]["error"]["code"] == "batch_expired"


async def test_cancelled_batch_keeps_its_answers(system: OpenAiSystem) -> None:
    system.responder.silent = True
    batch = await begin(system, [a_line(system, f"line-{number}", "x") for number in range(3)])
    await system.responder.wait_seen(3)
    with pytest.raises(openai.BadRequestError, match="cancel the batch first"):
        await system.client.files.delete(batch.input_file_id)
    assert (await system.client.batches.cancel(batch.id)).status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED)
    batch = await ended(system, batch)
    assert batch.status == BatchStatus.CANCELLED
    errors = await lines_of(system, batch.error_file_id)
    assert {error["error"]["code"] for error in errors.values()} == {"batch_cancelled"}
    assert len(errors) == 3
    await system.client.files.delete(batch.input_file_id)
    with pytest.raises(openai.NotFoundError):
        await system.client.batches.cancel("batch_absent")


async def test_ended_batch_cannot_be_cancelled(encoder: OpenAiSystem) -> None:
    batch = await ended(encoder, await begin(encoder, ["{"]))
    with pytest.raises(openai.ConflictError, match="nothing to cancel"):
        await encoder.client.batches.cancel(batch.id)


async def test_batch_is_continued_by_another_gateway(system: OpenAiSystem) -> None:
    lines = [a_line(system, f"line-{number}", f"text {number}") for number in range(1000)]
    file_id = await upload(system, lines)
    opened = open_gateway(system.settings(), system.kafka, system.models, system.dsn, asyncio.Event())
    async with opened as (url, _), openai_client(url) as client:
        batch = await client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
        await until(lambda: len(system.responder.seen) > 0)
    batch = await ended(system, batch)
    answers = await lines_of(system, batch.output_file_id)
    assert answers.keys() == {f"line-{number}" for number in range(1000)}
    vectors = [answers[f"line-{number}"]["response"]["body"]["data"][0]["embedding"] for number in range(1000)]
    np.testing.assert_allclose(vectors, [vector_of(f"text {number}") for number in range(1000)], rtol=1e-6)
