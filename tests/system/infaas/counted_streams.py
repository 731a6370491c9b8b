"""Readers of streams of a model that counts: each token is checked as it comes."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx
import openai
from openai import AsyncOpenAI

from infaas.client import InfaasClient
from schemas import headers as h
from tests.gguf_models import counted

TASK: Final = "writing"
TOKENS: Final = 100
PATIENCE_S: Final = 240.0


def prompt_of(number: int) -> str:
    """Return the prompt of a stream; its last character, where the answer begins, is another for each of 94."""
    return f"prompt {number} {chr(33 + number % 94)}"


async def by_own_client(client: InfaasClient, number: int, progress: asyncio.Semaphore) -> str:
    """Read one answer, check each of its tokens as it comes, and return its id."""
    text, expected, answer = "", counted(prompt_of(number), TOKENS), None
    options: dict[str, Any] = {"parameters": {"ignore_eos": True}, "max_tokens": TOKENS, "timeout_s": PATIENCE_S}
    async for part in client.stream(TASK, prompt_of(number), query_id=f"stream-{number}", **options):
        assert not part.restarted, "every attempt has the same text"
        text += part.text
        assert expected.startswith(text)
        answer = part.answer or answer
        for _ in range(part.tokens):
            progress.release()
    assert answer is not None
    assert text == expected == answer.outputs["text_output"][0].decode()
    assert answer.outputs["completion_tokens"][0] == TOKENS
    return answer.id


async def by_openai_client(client: AsyncOpenAI, number: int, progress: asyncio.Semaphore) -> str:
    """Read one answer as `by_own_client`; ask again if the gateway is lost, which cuts the stream."""
    query_id, prompt = f"stream-{number}", prompt_of(number)
    expected = counted(prompt, TOKENS)
    while True:
        try:
            made = await from_openai_client(client, query_id, expected, progress, model=TASK, prompt=prompt)
        except (httpx.TransportError, openai.APIConnectionError):
            continue
        assert made == (expected, "length", TOKENS)
        return query_id


async def from_openai_client(
    client: AsyncOpenAI, query_id: str, expected: str, progress: asyncio.Semaphore, *, model: str, prompt: str,
    max_tokens: int = TOKENS, headers: Mapping[str, str] = {}, **options: Any,
) -> tuple[str, str, int]:  # fmt: skip
    """Read one answer, each part of which must continue the expected text; return text, reason of the end, tokens."""
    options |= {"stream_options": {"include_usage": True}, "extra_headers": {h.ID: query_id, **headers}}
    stream = await client.completions.create(model=model, prompt=prompt, max_tokens=max_tokens, stream=True, **options)
    text, reason, tokens = "", "", 0
    async for chunk in stream:
        assert chunk.id == query_id
        tokens += chunk.usage.completion_tokens if chunk.usage else 0
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            text += choice.text
            assert expected.startswith(text)
            for _ in choice.text:
                progress.release()
    return text, reason, tokens
