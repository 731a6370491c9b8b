"""Responses to chats and text completions, whole and in chunks, in OpenAI's form. Pure.

A stream is a list of events, `data: <chunk>`: the role of a chat, then each growth of the answer, then the reason of
its end, then the usage if it was asked for, then `[DONE]`. An error within a stream is an event, too, and ends it.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from gateway.http.events import event
from schemas.generated_answer import GeneratedAnswer
from schemas.generation import AnswerPart, FinishReason, TokenLogprob
from schemas.openai_generation import (
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    CompletionChoice,
    CompletionUsage,
    TextChunk,
    TextCompletion,
)

DONE: Final = b"data: [DONE]\n\n"


class CompletionForm:
    """Form of the responses to one request.

    Args:
        query_id: id of the response.
        created: its time, in seconds since the epoch.
        model: model as the request names it.
        is_chat: true for the form of chats.
        with_logprobs: true if the log-probabilities of tokens are part of it.
    """

    def __init__(self, query_id: str, created: int, model: str, *, is_chat: bool, with_logprobs: bool) -> None:
        self._common: dict[str, Any] = {"id": query_id, "created": created, "model": model}
        self._is_chat = is_chat
        self._with_logprobs = with_logprobs
        self._characters = 0
        """Characters whose log-probabilities were given."""

    def whole(self, answers: Sequence[GeneratedAnswer], variant: str) -> ChatCompletion | TextCompletion:
        """Return the response with whole answers."""
        common: dict[str, Any] = self._common | {"usage": usage_of(answers), "system_fingerprint": variant}
        if not self._is_chat:
            return TextCompletion(choices=[self._choice(place, one) for place, one in enumerate(answers)], **common)
        choices = [
            ChatChoice(
                index=place,
                message=ChatAnswer(content=one.text),
                logprobs=self._logprobs(one.logprobs),
                finish_reason=one.finish_reason,
            )
            for place, one in enumerate(answers)
        ]
        return ChatCompletion(choices=choices, **common)

    def _choice(self, place: int, answer: GeneratedAnswer) -> CompletionChoice:
        logprobs = self._logprobs(answer.logprobs)
        return CompletionChoice(index=place, text=answer.text, logprobs=logprobs, finish_reason=answer.finish_reason)

    def first_chunk(self) -> bytes:
        """Return the event that begins a stream; empty if there is none."""
        return self._chunk(delta=ChatDelta(role="assistant", content="")) if self._is_chat else b""

    def chunk(self, part: AnswerPart) -> bytes:
        """Return the event of a growth."""
        logprobs = self._logprobs(part.logprobs)
        if self._is_chat:
            return self._chunk(delta=ChatDelta(content=part.text), logprobs=logprobs)
        return self._chunk(text=part.text, logprobs=logprobs)

    def last_chunks(self, answer: GeneratedAnswer, variant: str, *, with_usage: bool) -> bytes:
        """Return the events that end a stream."""
        end = self._chunk(variant, answer.finish_reason)
        if with_usage:
            kind = ChatChunk if self._is_chat else TextChunk
            end += event(kind(choices=[], usage=usage_of([answer]), system_fingerprint=variant, **self._common))
        return end + DONE

    def _chunk(
        self,
        variant: str | None = None,
        finish_reason: FinishReason | None = None,
        *,
        delta: ChatDelta = ChatDelta(),  # noqa: B008 - it is frozen
        text: str = "",
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        common: dict[str, Any] = self._common | {"system_fingerprint": variant}
        end: dict[str, Any] = {"index": 0, "logprobs": logprobs, "finish_reason": finish_reason}
        if self._is_chat:
            return event(ChatChunk(choices=[ChatChunkChoice(delta=delta, **end)], **common))
        return event(TextChunk(choices=[CompletionChoice(text=text, **end)], **common))

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self._with_logprobs:
            return None
        begin, self._characters = self._characters, self._characters + sum(len(one.token) for one in tokens)
        return _chat_logprobs(tokens) if self._is_chat else _text_logprobs(tokens, begin)


def usage_of(answers: Sequence[GeneratedAnswer]) -> CompletionUsage:
    """Return the tokens of prompts and answers."""
    prompt = sum(one.prompt_tokens for one in answers)
    completion = sum(one.completion_tokens for one in answers)
    return CompletionUsage(prompt, completion, prompt + completion)


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [
        _token(one.token, one.logprob) | {"top_logprobs": [_token(*other) for other in one.top]} for one in tokens
    ]
    return {"content": content, "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode(errors="replace"))}


def _text_logprobs(tokens: Sequence[TokenLogprob], begin: int) -> dict[str, Any]:
    return {
        "tokens": [one.token for one in tokens],
        "token_logprobs": [one.logprob for one in tokens],
        "top_logprobs": [dict(one.top) for one in tokens],
        "text_offset": [*accumulate((len(one.token) for one in tokens[:-1]), initial=begin)] if tokens else [],
    }
