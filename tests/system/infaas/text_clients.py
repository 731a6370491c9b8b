"""Checks of a task of texts by the clients that others wrote, as they are: OpenAI's, Triton's, a browser and agents.

The model counts, and its tokens are characters; after a character that it cannot count on from, it chooses one.
"""

import json
import re
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

import aiohttp
import numpy as np
import tritonclient.grpc.aio as triton
from mcp import Client
from openai import AsyncOpenAI, OpenAI

from infaas.client import InfaasClient
from infaas.mcp.server import TaskTools
from schemas.generation import INPUTS, OUTPUTS
from schemas.rows.catalog import Task
from tests.gguf_models import counted
from tests.system.infaas.counted_streams import TASK
from tests.waiting import read_until

LINES: Final = 3
SEEDS: Final = range(6)
FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"sky": {"enum": ["blue", "grey"]}, "wet": {"type": "boolean"}},
    "required": ["sky", "wet"],
    "additionalProperties": False,
}
_ENDED: Final = ("completed", "failed", "expired", "cancelled")


async def check_response_format(client: AsyncOpenAI) -> None:
    """Ask for an answer that obeys a JSON Schema, which a model that counts would never write by itself."""
    form: Any = {"type": "json_schema", "json_schema": {"name": "weather", "schema": FORM, "strict": True}}
    messages: Any = [{"role": "user", "content": "count on from a"}]
    made = await client.chat.completions.create(
        model=TASK, messages=messages, response_format=form, max_tokens=200, temperature=0
    )
    assert made.choices[0].finish_reason == "stop"
    found = json.loads(made.choices[0].message.content or "")
    assert found.keys() == FORM["properties"].keys()
    assert found["sky"] in FORM["properties"]["sky"]["enum"]
    assert isinstance(found["wet"], bool)


async def check_stop(client: AsyncOpenAI) -> None:
    """End an answer at one of two texts, whole and streamed; the text is no part of it."""
    options: dict[str, Any] = {"model": TASK, "prompt": "count on from a", "stop": ["xyz", "fg"], "max_tokens": 50}
    whole = await client.completions.create(**options)
    chunks: Any = await client.completions.create(**options, stream=True)
    choices = [choice async for chunk in chunks for choice in chunk.choices]
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("bcde", "stop")
    assert ("".join(choice.text for choice in choices), choices[-1].finish_reason) == ("bcde", "stop")


async def check_seed(client: AsyncOpenAI) -> None:
    """Have the model choose: the same seed chooses the same again, and others do not all choose alike."""

    async def chosen(seed: int) -> str:
        made = await client.completions.create(
            model=TASK, prompt="anything\n", seed=seed, temperature=2, max_tokens=3, frequency_penalty=2
        )
        return made.choices[0].text

    found = [await chosen(seed) for seed in SEEDS]
    assert [await chosen(seed) for seed in SEEDS] == found
    assert len(set(found)) > 1


def check_chat(client: OpenAI, variant: str) -> None:
    """Chat by the client for threads."""
    messages: Any = [{"role": "user", "content": "count"}]
    made = client.chat.completions.create(
        model=TASK, messages=messages, max_tokens=6, temperature=0, extra_body={"ttft_ms": 60_000, "tpot_ms": 10_000}
    )
    (choice,) = made.choices
    content = choice.message.content or ""
    assert (choice.message.role, choice.finish_reason, made.system_fingerprint) == ("assistant", "length", variant)
    assert content[1:] == counted(content[0], 5)
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.prompt_tokens + 6


async def check_batch(client: AsyncOpenAI) -> None:
    """Compute a file of chats; each line has its own number of tokens."""

    def line(number: int) -> str:
        body = {"model": TASK, "messages": [{"role": "user", "content": "count"}], "max_tokens": 2 + number}
        return json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body})

    file = await client.files.create(file=("chats.jsonl", "\n".join(map(line, range(LINES))).encode()), purpose="batch")
    begun = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = await read_until(lambda: client.batches.retrieve(begun.id), lambda found: found.status in _ENDED)
    assert batch.status == "completed", batch
    assert batch.output_file_id is not None
    answers = [json.loads(one) for one in (await client.files.content(batch.output_file_id)).text.splitlines()]
    assert sorted(one["custom_id"] for one in answers) == [str(number) for number in range(LINES)]
    for one in answers:
        body, tokens = one["response"]["body"], 2 + int(one["custom_id"])
        content = body["choices"][0]["message"]["content"]
        assert (one["response"]["status_code"], body["object"]) == (200, "chat.completion")
        assert (body["usage"]["completion_tokens"], body["choices"][0]["finish_reason"]) == (tokens, "length")
        assert content[1:] == counted(content[0], tokens - 1)


async def check_grpc_stream(address: str, tokens: int) -> None:
    """Read an answer by `ModelStreamInfer`: each token once and in order, then the end."""
    prompt = triton.InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(np.array([b"count on from a"], np.object_))

    async def asked() -> AsyncGenerator[dict[str, Any]]:
        parameters = {"max_tokens": tokens, "ignore_eos": True, "ttft_ms": 60_000}
        yield {"model_name": TASK, "inputs": [prompt], "request_id": "mine", "parameters": parameters}

    text, results = "", list[Any]()
    async with triton.InferenceServerClient(address) as client:
        answers: Any = client.stream_infer(asked())
        async for result, error in answers:
            assert error is None
            response = result.get_response()
            assert response.id == "mine"
            text += result.as_numpy("text_output")[0].decode()
            assert counted("a", tokens).startswith(text)
            results.append(result)
    assert text == counted("a", tokens)
    assert len(results) > 2, "in parts"
    finals = [one.get_response().parameters["triton_final_response"].bool_param for one in results]
    assert finals == [False] * (len(results) - 1) + [True]
    assert results[-1].as_numpy("finish_reason")[0] == b"length"
    assert results[-1].get_response().parameters["completion_tokens"].int64_param == tokens


async def check_console(gateway: str) -> None:
    """Ask by the form of the console, as a browser does."""
    page = f"{gateway}/console/tasks/{TASK}"
    async with aiohttp.ClientSession(headers={"Accept": "text/html"}, raise_for_status=True) as http:
        async with http.get(page) as answer:
            token = re.search(r'name="token" value="([^"]+)"', await answer.text())
        assert token is not None
        fields = {"token": token[1], "input.text_input": "count on from a", "max_tokens": "4", "ttft_ms": "60000"}
        async with http.post(f"{page}/ask", data=fields | {"seed": "1"}, headers={"HX-Request": "true"}) as answer:
            html = await answer.text()
    assert ">bcde</dd>" in html
    assert "USD per 1000 tokens" in html
    assert "TTFT ms" in html


async def check_tool(client: InfaasClient) -> None:
    """Call the task as an agent does, with needs and options of generated text."""

    async def tasks() -> list[Task]:
        return [Task(name=TASK, inputs=INPUTS, outputs=OUTPUTS, measure="contains")]

    async with Client(TaskTools(client, tasks).server()) as agent:
        needs = {"max_tokens": 4, "ttft_ms": 60_000, "tpot_ms": 10_000}
        arguments = {"text_input": "count on from a", "needs": needs, "parameters": {"temperature": 0, "stop": ["d"]}}
        answered = await agent.call_tool(TASK, arguments)
        refused = await agent.call_tool(TASK, arguments | {"needs": {"max_cost": 0}})
    found = cast("dict[str, Any]", answered.structured_content)
    assert (found["outputs"]["text_output"], found["outputs"]["finish_reason"]) == ("bc", "stop")
    assert refused.is_error
    assert "1000 tokens" in str(refused.content)
