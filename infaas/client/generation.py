"""Queries of generative tasks: prompts and chats as inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from infaas.client.transport import EncodedQuery
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.generation import TEXT_INPUT

Prompt: TypeAlias = str | Sequence[Mapping[str, str]]
"""A text, or a chat: messages with `role` and `content`."""


def encode_prompt(
    encode: Callable[[str, Any, Any], EncodedQuery], task: str, prompt: Prompt, options: Any
) -> EncodedQuery:
    """Encode a query whose answer is wanted in parts; `encode` is that of other queries.

    Raises:
        InvalidRequest: an option is unknown, or the chat has no message.
    """
    parameters = dict(options.get("parameters") or {})
    if isinstance(prompt, str):
        text = prompt
    elif prompt:
        text, parameters["chat"] = msgspec.json.encode(list(prompt)).decode(), True
    else:
        raise InvalidRequest("a chat needs at least one message")
    query = encode(task, {TEXT_INPUT: [text]}, {**options, "parameters": parameters, "json": True})
    return msgspec.structs.replace(query, fields={**query.fields, h.STREAM: "true"}, prompt=text, parameters=parameters)
