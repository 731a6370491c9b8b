"""Routes of chats and text completions: `/v1/chat/completions` and `/v1/completions`."""

import time
from collections.abc import Callable
from uuid import uuid4

from aiohttp import web

from gateway.generation import RESTARTED, Generation, GenerativeCall, answers_in, generation_headers
from gateway.http.answers import json_response
from gateway.http.authorization import models_for, principal_of
from gateway.http.bodies import RequestBodies
from gateway.http.events import EventResponse, event
from gateway.http.inference import client_of
from gateway.inference import result_headers
from gateway.model_directory import ModelDirectory
from gateway.openai.completions import CompletionForm
from gateway.openai.errors import openai_error
from gateway.openai.generation import GenerationRequest, read_chat_request, read_completion_request
from gateway.translation import made_headers
from schemas import headers as h
from schemas.errors import Overloaded, QueryError, RefusalReason
from schemas.generated_answer import AnswerRestart
from schemas.generation import AnswerPart
from schemas.openai import OpenAiErrorBody
from schemas.openai_generation import CHAT, COMPLETIONS


class CompletionRoutes:
    """Handlers of chats and text completions.

    Args:
        models: names that clients may use as models.
        generation: executor of generative queries.
        bodies: reader of request bodies.
    """

    def __init__(self, models: ModelDirectory, generation: Generation, bodies: RequestBodies) -> None:
        self._models = models
        self._generation = generation
        self._bodies = bodies

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [web.post(CHAT, self.chat), web.post(COMPLETIONS, self.complete)]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer with the next message of a chat."""
        return await self._answer(request, read_chat_request, f"chatcmpl-{uuid4().hex}")

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer with the text after a prompt."""
        return await self._answer(request, read_completion_request, f"cmpl-{uuid4().hex}")

    async def _answer(
        self, request: web.Request, read: Callable[[bytes], GenerationRequest], new_id: str
    ) -> web.StreamResponse:
        async with self._bodies.reading(request.content, request.headers) as body:
            asked = read(body)
            model = models_for(request, self._models).find(asked.model)
            query = asked.query(model)
        headers = made_headers(generation_headers(request.headers), request.query, query)
        headers.setdefault(h.ID, new_id)
        call = GenerativeCall(
            model, principal_of(request), client_of(request.transport), headers, query, len(asked.prompts)
        )
        form = CompletionForm(
            headers[h.ID], int(time.time()), asked.model, is_chat=asked.is_chat, with_logprobs=asked.with_logprobs
        )
        if asked.is_streamed:
            return await self._stream(request, call, form, with_usage=asked.with_usage)
        result, answers = await self._generation.whole(call)
        return json_response(form.whole(answers, result.variant), headers=result_headers(result))

    async def _stream(
        self, request: web.Request, call: GenerativeCall, form: CompletionForm, *, with_usage: bool
    ) -> web.StreamResponse:
        response = EventResponse(request, {h.ID: call.headers[h.ID]})
        async with response.ending(_error_event), self._generation.stream(call) as events:
            async for found in events:
                if isinstance(found, AnswerRestart):
                    raise Overloaded(RESTARTED, reason=RefusalReason.RESTARTED)
                if not response.begun:
                    await response.send(form.first_chunk())
                if isinstance(found, AnswerPart):
                    await response.send(form.chunk(found))
                else:
                    (answer,) = answers_in(found)
                    await response.send(form.last_chunks(answer, found.variant, with_usage=with_usage))
        return response.ended


def _error_event(error: QueryError) -> bytes:
    return event(OpenAiErrorBody(openai_error(error.http_status, str(error), error.reason or error.code)))
