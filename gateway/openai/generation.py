"""Requests for chats and text completions: from OpenAI's form to a query. Pure.

A chat is one text for the system, a JSON list of messages, which the template of the chosen model turns into a prompt.
Sampling options are parameters of the query; needs are beside them. Fields that are not offered are refused, unless
they ask for nothing.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from gateway.model_directory import ServedModel
from gateway.openai.embeddings import read_json, read_needs
from schemas.errors import InvalidRequest
from schemas.generation import TEXT_INPUT
from schemas.oip import EncodedMessage, encode_request
from schemas.openai_generation import ChatRequest, CompletionRequest, OpenAiMessage, ResponseFormat, SamplingRequest
from schemas.query_names import Parameter
from schemas.tensors import bytes_array

_chat: Final = msgspec.json.Decoder(ChatRequest)
_completion: Final = msgspec.json.Decoder(CompletionRequest)
_encode: Final = msgspec.json.Encoder().encode
_PASSED: Final = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed")
_NOT_OFFERED: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "echo": (False,),
    "suffix": ("",),
}
"""Fields with the values that ask for nothing."""


class GenerationRequest(NamedTuple):
    """Request for answers, as the gateway executes it."""

    model: str
    is_chat: bool
    prompts: list[str]
    """Prompts, or one chat in JSON."""
    parameters: dict[str, Parameter]
    """Options and needs."""
    is_streamed: bool
    with_usage: bool
    """True if a stream ends with the number of tokens."""
    with_logprobs: bool

    def query(self, model: ServedModel) -> EncodedMessage:
        """Return the query for the answers.

        Raises:
            InvalidRequest: the model makes no texts.
        """
        if not model.is_generative:
            raise InvalidRequest(f"$.model: {model.name} makes no texts: it is not of a generative task")
        return encode_request({TEXT_INPUT: bytes_array(self.prompts)}, parameters=self.parameters, binary=False)


def read_chat_request(body: bytes) -> GenerationRequest:
    """Read a request for the next message of a chat.

    Raises:
        InvalidRequest: it is invalid, or needs what is not offered; the message names the field.
    """
    asked: ChatRequest = read_json(body, _chat)
    parameters = _parameters(body, asked)
    parameters["chat"] = True
    if asked.max_completion_tokens is not None:
        parameters["max_tokens"] = asked.max_completion_tokens
    if asked.logprobs:
        parameters["logprobs"] = asked.top_logprobs or 0
    elif asked.top_logprobs:
        raise InvalidRequest("$.top_logprobs: it needs `logprobs` true")
    chat = _encode([_message(one, f"$.messages[{place}]") for place, one in enumerate(asked.messages)]).decode()
    return _request(asked, [chat], parameters, is_chat=True, with_logprobs=bool(asked.logprobs))


def read_completion_request(body: bytes) -> GenerationRequest:
    """Read a request for the text after a prompt, or after each of several.

    Raises:
        InvalidRequest: it is invalid, or needs what is not offered; the message names the field.
    """
    asked: CompletionRequest = read_json(body, _completion)
    parameters = _parameters(body, asked)
    if asked.logprobs is not None:
        parameters["logprobs"] = asked.logprobs
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if len(texts) != len(prompts):
        raise InvalidRequest("$.prompt: send texts; token ids are those of one model, and a task may have many")
    if len(texts) > 1 and (asked.stream or asked.logprobs is not None):
        raise InvalidRequest("$.prompt: send one prompt, if the answer is streamed or has logprobs")
    return _request(asked, texts, parameters, is_chat=False, with_logprobs=asked.logprobs is not None)


def _request(
    asked: SamplingRequest, prompts: list[str], parameters: dict[str, Parameter], *, is_chat: bool, with_logprobs: bool
) -> GenerationRequest:
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequest("$.stream_options: they need `stream` true")
    return GenerationRequest(asked.model, is_chat, prompts, parameters, bool(asked.stream), with_usage, with_logprobs)


def _parameters(body: bytes, asked: SamplingRequest) -> dict[str, Parameter]:
    fields = type(asked).__struct_fields__
    for name in fields:
        nothing = _NOT_OFFERED.get(name)
        value = getattr(asked, name)
        if nothing is not None and value is not None and value not in nothing:
            only = f"; only {nothing[0]} is" if name in ("n", "best_of") else ""
            raise InvalidRequest(f"$.{name}: it is not offered{only}")
    parameters = read_needs(body, fields)
    parameters |= {name: getattr(asked, name) for name in _PASSED if getattr(asked, name) is not None}
    if asked.max_tokens is not None:
        parameters["max_tokens"] = asked.max_tokens
    if asked.stop:
        parameters["stop"] = _encode([asked.stop] if isinstance(asked.stop, str) else asked.stop).decode()
    if asked.response_format is not None and (schema := _json_schema(asked.response_format)):
        parameters["json_schema"] = schema
    return parameters


def _json_schema(form: ResponseFormat) -> str:
    if form.type == "text":
        return ""
    if form.type == "json_object":
        return "{}"
    if form.json_schema is None:
        raise InvalidRequest("$.response_format.json_schema: it is missing")
    return _encode(form.json_schema.schema).decode()


def _message(message: OpenAiMessage, where: str) -> dict[str, str]:
    """Return a message as templates of models know it."""
    content = message.content or ""
    if not isinstance(content, str):
        if wrong := next((part.type for part in content if part.type != "text"), ""):
            raise InvalidRequest(f"{where}.content: only texts are offered, not {wrong[:40]!r}")
        content = "".join(part.text for part in content)
    return {"role": "system" if message.role == "developer" else message.role, "content": content}
