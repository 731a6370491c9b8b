"""`POST /v2/models/{name}/generate` and `/generate_stream`: the generate extension of the Open Inference Protocol.

A request has `text_input`, and its options and needs as `parameters` or beside it, as Triton's clients send them. A
response has `text_output`, the reason of its end, its tokens, and the headers of the result as `parameters`; in a
stream each event has the text that follows, and the last one all the others. If an answer restarts, a client that sends
`infaas-stream: true` gets the event `{"restarted": true}`, any other client an error.
"""

from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from gateway.generation import RESTARTED, Generation, GenerativeCall, answers_in, check_generative, generation_headers
from gateway.http.answers import json_response
from gateway.http.authorization import models_for, principal_of
from gateway.http.bodies import RequestBodies
from gateway.http.events import EventResponse, event
from gateway.http.inference import client_of
from gateway.inference import result_headers
from gateway.model_directory import ModelDirectory, ServedModel
from gateway.translation import made_headers
from schemas import headers as h
from schemas.errors import InvalidRequest, Overloaded, QueryError, RefusalReason
from schemas.generated_answer import AnswerRestart, GeneratedAnswer
from schemas.generation import TEXT_INPUT, AnswerPart
from schemas.oip import encode_request
from schemas.query_names import Parameter
from schemas.result import Result
from schemas.tensors import bytes_array

_IGNORED: Final = ("stream", "exclude_input_in_output")
"""Parameters of Triton's backends that state the way of the answer, which the path states here."""
_OWN: Final = (TEXT_INPUT, "id", "parameters")
_fields: Final = msgspec.json.Decoder(dict[str, Any])


class GenerateRequest(msgspec.Struct, frozen=True):
    """Request for a text."""

    text: str
    id: str
    parameters: dict[str, Parameter]


def read_generate_request(body: bytes) -> GenerateRequest:
    """Read a request.

    Raises:
        InvalidRequest: it is invalid; the message names the field.
    """
    try:
        fields = _fields.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"the body must be a JSON object with `{TEXT_INPUT}`: {error}") from None
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest("Expected `object` - at `$.parameters`")
    given = {name: value for name, value in fields.items() if name not in _OWN} | parameters
    made = {name: _parameter(name, value) for name, value in given.items() if name not in _IGNORED}
    try:
        asked = msgspec.convert(
            {"text": fields.get(TEXT_INPUT), "id": fields.get("id", ""), "parameters": made}, GenerateRequest
        )
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error).replace("$.text", f"$.{TEXT_INPUT}")) from None
    if not asked.id.isprintable():  # it becomes a header of the response
        raise InvalidRequest("$.id: it has a line break, or another character that is not printable")
    return asked


def _parameter(name: str, value: object) -> object:
    """Return a value as a parameter; a list of stops, or a schema, is one as its JSON."""
    is_nested = name in ("stop", "json_schema") and not isinstance(value, str)
    return msgspec.json.encode(value).decode() if is_nested else value


class GenerateRoutes:
    """Handlers of the generate extension."""

    def __init__(self, models: ModelDirectory, generation: Generation, bodies: RequestBodies) -> None:
        self._models = models
        self._generation = generation
        self._bodies = bodies

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.post(f"/v2/models/{{name}}{version}/{path}", handler)
            for version in ("", "/versions/{version}")
            for path, handler in (("generate", self.generate), ("generate_stream", self.generate_stream))
        ]

    async def generate(self, request: web.Request) -> web.Response:
        """Answer with the whole text."""
        result, (answer,) = await self._generation.whole(await self._call(request))
        return json_response(_whole(result, answer, answer.text), headers=result_headers(result))

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with events as the text is made."""
        call = await self._call(request)
        takes_back = request.headers.get(h.STREAM) == "true"
        response = EventResponse(request, {h.ID: call.headers[h.ID]})
        async with response.ending(_error_event), self._generation.stream(call) as events:
            async for found in events:
                await response.send(_event(call.model, found, takes_back=takes_back))
        return response.ended

    async def _call(self, request: web.Request) -> GenerativeCall:
        path = request.match_info
        async with self._bodies.reading(request.content, request.headers) as body:
            asked = read_generate_request(body)
            model = models_for(request, self._models).find(path["name"], path.get("version"))
            check_generative(model)
            texts = {TEXT_INPUT: bytes_array([asked.text])}
            query = encode_request(texts, request_id=asked.id, parameters=asked.parameters, binary=False)
        headers = made_headers(generation_headers(request.headers), request.query, query)
        headers.setdefault(h.ID, asked.id or uuid4().hex)
        return GenerativeCall(model, principal_of(request), client_of(request.transport), headers, query)


def _event(model: ServedModel, found: AnswerPart | AnswerRestart | Result, *, takes_back: bool) -> bytes:
    if isinstance(found, Result):
        (answer,) = answers_in(found)
        return event(_whole(found, answer, ""))
    if isinstance(found, AnswerRestart):
        if not takes_back:
            raise Overloaded(RESTARTED, reason=RefusalReason.RESTARTED)
        return event({"model_name": model.name, "restarted": True})
    content = {"model_name": model.name, "text_output": found.text, "tokens": found.tokens}
    return event(content | ({"logprobs": found.logprobs} if found.logprobs else {}))


def _error_event(error: QueryError) -> bytes:
    return event({"error": str(error), "reason": error.reason or "", "code": error.code})


def _whole(result: Result, answer: GeneratedAnswer, text: str) -> dict[str, object]:
    content = msgspec.to_builtins(answer)
    del content["text"]
    if not answer.logprobs:
        del content["logprobs"]
    return {
        "id": result.id,
        "model_name": result.variant,
        "model_version": "1",
        "text_output": text,
        **content,
        "parameters": result_headers(result),
    }
