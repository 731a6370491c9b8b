"""Requests and responses of OpenAI's chat and text completions that a gateway serves, in OpenAI's own words.

Fields that this system does not offer are named all the same, so that a request that needs one gets a clear error.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from schemas.generation import FinishReason
from schemas.openai import Name

CHAT: Final = "/v1/chat/completions"
"""Path of chats, and an endpoint that a batch may name."""
COMPLETIONS: Final = "/v1/completions"
"""Path of text completions, and an endpoint that a batch may name."""
MOST_MESSAGES: Final = 2048
MOST_PROMPTS: Final = 128
"""Maximum number of prompts of one request."""

Tokens = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Stop = str | Annotated[list[str], msgspec.Meta(max_length=16)]


class TextContent(msgspec.Struct, frozen=True):
    """Part of a message; only texts are offered."""

    type: str
    text: str = ""


class OpenAiMessage(msgspec.Struct, frozen=True):
    """Message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextContent] | None = None
    name: str | None = None
    """Accepted and not used."""


class JsonFormat(msgspec.Struct, frozen=True):
    """Schema of an answer."""

    schema: dict[str, Any] = {}
    name: str = ""
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """Form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonFormat | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted and not used."""


class SamplingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that chats and text completions share."""

    model: Name
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    """Beyond OpenAI's fields, as other servers have it."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    n: int | None = None
    """Only 1 is offered."""
    logit_bias: dict[str, float] | None = None
    """Not offered."""
    user: str | None = None
    """Accepted and not used, as the fields that follow."""
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ChatRequest(SamplingRequest, frozen=True, kw_only=True):
    """Request for the next message of a chat, without its needs."""

    messages: Annotated[list[OpenAiMessage], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    tools: list[Any] | None = None
    """Not offered, as the fields that follow."""
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None


class CompletionRequest(SamplingRequest, frozen=True, kw_only=True):
    """Request for the text after a prompt, without its needs."""

    prompt: str | Annotated[list[Any], msgspec.Meta(min_length=1, max_length=MOST_PROMPTS)]
    """A text, or a list of texts; token ids are not offered."""
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    best_of: int | None = None
    """Only 1 is offered."""
    echo: bool | None = None
    """Not offered."""
    suffix: str | None = None
    """Not offered."""


class CompletionUsage(msgspec.Struct, frozen=True):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, or in a chunk the text that it grew by."""

    index: int
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: FinishReason | None = None


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Message of a model."""

    role: str = "assistant"
    content: str
    refusal: str | None = None


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    index: int
    message: ChatAnswer
    logprobs: dict[str, Any] | None = None
    finish_reason: FinishReason | None = None


class ChatDelta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Growth of a message."""

    role: str | None = None
    content: str | None = None


class ChatChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Growth of one answer."""

    index: int
    delta: ChatDelta
    logprobs: dict[str, Any] | None = None
    finish_reason: FinishReason | None = None


class CompletionBody(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that all responses share."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None = None
    """Name of the variant that answered; in a stream known at its end."""


class ChatCompletion(CompletionBody, frozen=True, kw_only=True):
    """Response to a chat."""

    object: str = "chat.completion"
    choices: list[ChatChoice]
    usage: CompletionUsage


class ChatChunk(CompletionBody, frozen=True, kw_only=True):
    """Event of a streamed chat."""

    object: str = "chat.completion.chunk"
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | None = None


class TextCompletion(CompletionBody, frozen=True, kw_only=True):
    """Response to a text completion."""

    object: str = "text_completion"
    choices: list[CompletionChoice]
    usage: CompletionUsage


class TextChunk(CompletionBody, frozen=True, kw_only=True):
    """Event of a streamed text completion."""

    object: str = "text_completion"
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = None
