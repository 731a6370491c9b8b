"""Generative queries of all protocols: the answer as it is made, or whole."""

from collections.abc import Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NamedTuple

from multidict import CIMultiDict

from broker.replies.answer_stream import AnswerStream, OnPart, stream_answer
from gateway.inference import ArrivedRequest, Inference
from gateway.model_directory import ServedModel
from schemas import headers as h
from schemas.access import Principal
from schemas.errors import Internal, InvalidRequest
from schemas.generated_answer import GeneratedAnswer, read_answers
from schemas.oip import EncodedMessage
from schemas.result import Result

RESTARTED: Final = "the answer restarted: its computation was lost, and another one gives another text; ask again"
"""Message for clients of protocols that cannot take text back."""


class WholeAnswers(NamedTuple):
    """Answers to a query, one for each prompt."""

    result: Result
    answers: list[GeneratedAnswer]


class GenerativeCall(NamedTuple):
    """Generative query of a client."""

    model: ServedModel
    principal: Principal
    client: Hashable
    """Key of the client's connection."""
    headers: Mapping[str, str]
    query: EncodedMessage
    prompts: int = 1


class Generation:
    """Executor of the generative queries of one gateway."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def stream(self, call: GenerativeCall) -> AbstractAsyncContextManager[AnswerStream]:
        """Return a context with the events of an answer; leaving it ends the query.

        The events raise a `QueryError` if the query has no result.
        """
        return stream_answer(partial(self._ask, call))

    async def whole(self, call: GenerativeCall) -> WholeAnswers:
        """Return the whole answers.

        Raises:
            QueryError: the query has no result.
        """
        result = await self._ask(call)
        return WholeAnswers(result, answers_in(result, call.prompts))

    async def _ask(self, call: GenerativeCall, on_part: OnPart | None = None) -> Result:
        request = ArrivedRequest(call.headers, call.query.value)
        return await self._inference.ask_made(call.model, call.principal, call.client, request, on_part)


def answers_in(result: Result, count: int = 1) -> list[GeneratedAnswer]:
    """Return the answers in a result.

    Raises:
        Internal: there are more, or fewer.
    """
    answers = read_answers(result)
    if len(answers) != count:
        raise Internal(f"the result has {len(answers)} texts where {count} were asked for")
    return answers


def generation_headers(headers: Mapping[str, str]) -> "CIMultiDict[str]":
    """Return the headers of a request; the headers of other gateways for TTFT and TPOT become needs."""
    found = CIMultiDict(headers)
    for other, own in h.SLO.items():
        if other in found:
            found.setdefault(own, found[other])
    return found


def check_generative(model: ServedModel) -> None:
    """Raise `InvalidRequest` if a model makes no texts."""
    if not model.is_generative:
        raise InvalidRequest(f"{model.name} makes no texts: it is not of a generative task; use /infer")
