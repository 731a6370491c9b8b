"""`inference.GRPCInferenceService`: the Open Inference Protocol, with the same path of a query as HTTP.

* Needs are given in the parameters of a request or, as `infaas-*`, in the metadata of a call. Metadata takes
  precedence, so that a proxy can set limits. If neither holds a latency, the deadline of the call is used. It is
  rounded down to two digits: the difference is for the way of the response, and similar calls fall into one class of
  queries.
* A call that its client cancels, or whose deadline passes, is cancelled here, which releases its memory.
* A request of a stream to a generative model is answered by a response for each part of the text as it is made, and
  one that ends it; a request of several prompts, or by `ModelInfer`, by one response with the whole texts.
* At most `_IN_FLIGHT` requests of a stream run at once; beyond that no more are read, and HTTP/2 applies backpressure.
  A client that reads no responses blocks only its own requests.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from math import floor, log10
from typing import Any, Final, TypeAlias

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from broker.replies.answer_stream import OnPart, stream_answer
from gateway.generation import RESTARTED, answers_in
from gateway.grpc import inference_pb2 as wire
from gateway.grpc.call import Call
from gateway.grpc.calls import Caller, Callers, Handler, known_error, parsed, stream, unary
from gateway.grpc.messages import (
    InferMessage,
    OipRequest,
    infer_response,
    oip_request,
    read_message,
    streamed_end,
    streamed_error,
    streamed_part,
    streamed_response,
    with_end,
)
from gateway.inference import ArrivedRequest, Inference, result_headers
from gateway.limits.arrivals import Arrivals, BodyBudget
from gateway.limits.connections import CallLimit
from gateway.model_directory import (
    ServedModel,
    ServedModels,
    load_model,
    repository_index,
    server_metadata,
    unload_model,
)
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from schemas import headers as h
from schemas.access import ANYONE
from schemas.errors import Overloaded, RefusalReason, UnknownTask
from schemas.generation import TEXT_OUTPUT, AnswerPart
from schemas.query_names import TIMEOUT
from schemas.result import Result
from schemas.signature import BINARY

_IN_FLIGHT: Final = 256
"""Maximum concurrent requests of one stream."""
_STREAMS: Final = 1000
"""Maximum concurrent streams; their duration is not limited."""
_SHARE: Final = 4
"""One caller may use 1/4 of the streams."""
_LATENCIES: Final = ("latency_ms", TIMEOUT)
"""Parameters that set a latency."""
_Telling: TypeAlias = Callable[[Any, ServedModels], Awaitable[Message]]
"""Method that answers from the models that its caller may use."""
_Write: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Function that writes a response to a stream."""


class InferenceService:
    """Methods for queries and for metadata of models."""

    def __init__(
        self,
        callers: Callers,
        inference: Inference,
        statistics: ModelStatisticsTable,
        bodies: BodyBudget,
        settings: GatewaySettings,
        arrivals: Arrivals,
        problem: Callable[[], Awaitable[str]],
        version: str,
        stop: asyncio.Event,
    ) -> None:
        self._callers = callers
        self._inference = inference
        self._statistics = statistics
        self._bodies = bodies
        self._max_bytes = settings.max_body_bytes
        self._arrivals = arrivals
        self._streams = CallLimit("query streams", _STREAMS, _STREAMS // _SHARE)
        self._problem = problem
        self._version = version
        self._stop = stop

    def methods(self) -> dict[str, Handler]:
        """Return the handlers by the name of their method."""
        told: dict[str, tuple[type[Message], _Telling]] = {
            "ServerMetadata": (wire.ServerMetadataRequest, self._server_metadata),
            "ModelReady": (wire.ModelReadyRequest, self._model_ready),
            "ModelMetadata": (wire.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (wire.ModelConfigRequest, self._model_config),
            "ModelStatistics": (wire.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": (wire.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (wire.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (wire.RepositoryModelUnloadRequest, self._unload),
        }
        return {
            "ServerLive": _open(self._live),
            "ServerReady": _open(self._ready),
            "ModelInfer": unary(self._infer),
            "ModelStreamInfer": stream(self._stream_infer),
            **{name: self._telling(name, kind, method) for name, (kind, method) in told.items()},
        }

    # -- queries -------------------------------------------------------------------------------------------------------
    async def _infer(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        caller = await self._callers.of(call, "ModelInfer")
        message = await self._arrivals.message(messages)
        result = await self._ask(read_message(message), caller, call.peer, call.time_remaining())
        call.trailing = {name: text for name, text in result_headers(result).items() if _is_tellable(text)}
        return infer_response(result)

    async def _stream_infer(self, messages: AsyncIterator[bytes], call: Call) -> None:
        principal = (await self._callers.of(call, "ModelStreamInfer")).principal
        client = call.peer[0] if principal is ANYONE else principal.name
        with self._streams.taken(client):
            await self._answer_stream(messages, call)

    async def _answer_stream(self, messages: AsyncIterator[bytes], call: Call) -> None:
        writing, places = asyncio.Lock(), asyncio.Semaphore(_IN_FLIGHT)

        async def write(response: bytes) -> None:
            async with writing:
                await call.write(response)

        async def answer(message: bytes) -> None:
            try:
                await self._respond(message, call, write)
            finally:
                places.release()

        async def read() -> None:
            await places.acquire()
            async for message in messages:
                tasks.create_task(answer(message))
                await places.acquire()
            stopping.cancel()

        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            stopping = tasks.create_task(self._stop_reading(reading))
        if self._stop.is_set():
            message = "the gateway is stopping; requests that it has read are answered, send the others again"
            raise Overloaded(message, reason=RefusalReason.STOPPING)

    async def _stop_reading(self, reading: asyncio.Task[None]) -> None:
        await self._stop.wait()
        reading.cancel()

    async def _respond(self, message: bytes, call: Call, write: _Write) -> None:
        """Write the responses to a request of a stream; the deadline of the stream is not that of a request."""
        request_id = ""
        try:
            request = read_message(message)
            request_id = request.head.id
            caller = await self._callers.of(call, "ModelStreamInfer")  # its key may be revoked by now
            model = caller.models.find(request.head.model_name, request.head.model_version or None)
            if model.is_generative and _prompts(request) == 1:
                await self._write_parts(request, model, caller, call.peer, write)
            else:
                await write(streamed_response(await self._ask(request, caller, call.peer, None)))
        except Exception as error:  # noqa: BLE001 - top of a request; the stream continues
            await write(streamed_error(request_id, known_error(error)))

    async def _write_parts(
        self, request: InferMessage, model: ServedModel, caller: Caller, client: Hashable, write: _Write
    ) -> None:
        whole, wanted = with_end(request), {output.name for output in request.head.outputs}
        async with stream_answer(lambda on_part: self._ask(whole, caller, client, None, on_part)) as events:
            async for event in events:
                if isinstance(event, Result):
                    await write(streamed_end(event, *answers_in(event), wanted=wanted))
                elif wanted and TEXT_OUTPUT not in wanted:
                    continue  # the client wants the end only
                elif isinstance(event, AnswerPart):
                    await write(streamed_part(model.name, request.head.id, event))
                else:
                    raise Overloaded(RESTARTED, reason=RefusalReason.RESTARTED)

    async def _ask(
        self, message: InferMessage, caller: Caller, client: Hashable, left_s: float | None,
        on_part: OnPart | None = None,
    ) -> Result:  # fmt: skip
        model = caller.models.find(message.head.model_name, message.head.model_version or None)
        return await self._inference.ask(
            model, caller.principal, client, lambda: self._arriving(message, caller.metadata, left_s), on_part
        )

    async def _arriving(
        self, message: InferMessage, metadata: Mapping[str, str], left_s: float | None
    ) -> ArrivedRequest:
        request = oip_request(message, self._max_bytes)
        headers = {**metadata, h.CONTENT_TYPE: BINARY, h.JSON_LENGTH: str(request.json_length)}
        if left_s is not None and not _names_latency(request, metadata):
            headers[h.LATENCY_MS] = latency_of(left_s)
        self._bodies.take(len(request.value))
        return ArrivedRequest(headers, request.value)

    # -- the server ----------------------------------------------------------------------------------------------------
    async def _live(self) -> Message:
        return wire.ServerLiveResponse(live=True)

    async def _ready(self) -> Message:
        return wire.ServerReadyResponse(ready=not await self._problem())

    async def _server_metadata(self, _request: wire.ServerMetadataRequest, _models: ServedModels) -> Message:
        return _filled(wire.ServerMetadataResponse(), server_metadata(self._version))

    # -- models that the caller may use --------------------------------------------------------------------------------
    async def _model_ready(self, request: wire.ModelReadyRequest, models: ServedModels) -> Message:
        try:
            return wire.ModelReadyResponse(ready=models.find(request.name, request.version or None).ready)
        except UnknownTask:
            return wire.ModelReadyResponse(ready=False)

    async def _model_metadata(self, request: wire.ModelMetadataRequest, models: ServedModels) -> Message:
        model = models.find(request.name, request.version or None)
        return _filled(wire.ModelMetadataResponse(), model.metadata())

    async def _model_config(self, request: wire.ModelConfigRequest, models: ServedModels) -> Message:
        model = models.find(request.name, request.version or None)
        return _filled(wire.ModelConfigResponse(), {"config": model.config()})

    async def _model_statistics(self, request: wire.ModelStatisticsRequest, models: ServedModels) -> Message:
        asked = [models.find(request.name, request.version or None)] if request.name else list(models.versions())
        found = [self._statistics.of(model).as_triton() for model in asked]
        return _filled(wire.ModelStatisticsResponse(), {"model_stats": found})

    async def _index(self, request: wire.RepositoryIndexRequest, models: ServedModels) -> Message:
        found = repository_index(models, only_ready=request.ready)
        return _filled(wire.RepositoryIndexResponse(), {"models": found})

    async def _load(self, request: wire.RepositoryModelLoadRequest, models: ServedModels) -> Message:
        load_model(models.find(request.model_name), changed=bool(request.parameters))
        return wire.RepositoryModelLoadResponse()

    async def _unload(self, request: wire.RepositoryModelUnloadRequest, models: ServedModels) -> Message:
        unload_model(models.find(request.model_name))

    def _telling(self, name: str, kind: type[Message], method: _Telling) -> Handler:
        """Return the handler of a method that answers from the gateway's own data."""

        async def answer(messages: AsyncIterator[bytes], call: Call) -> bytes:
            caller = await self._callers.of(call, name)
            message = await self._arrivals.message(messages)
            return (await method(parsed(kind, message), caller.models)).SerializeToString()

        return unary(answer)

    async def not_offered(self, method: str, call: Call) -> str:
        """Return the error message for an unknown method, to authenticated callers only."""
        await self._callers.of(call, method)
        return not_offered(method)


def not_offered(method: str) -> str:
    """Return the error message for a method that this gateway does not offer."""
    if "SharedMemory" in method:
        return "shared memory is not offered: queries are computed on other machines; send the tensors"
    if method in ("TraceSetting", "LogSettings"):
        return f"{method} is not offered: INFAAS_LOG_LEVEL sets the log level, `traceparent` headers trace queries"
    return f"GRPCInferenceService has no method {method}"


def _is_tellable(text: str) -> bool:
    """Return true if a text is printable ASCII, as metadata must be; the id of a query may be any text."""
    return text.isascii() and text.isprintable()


def latency_of(left_s: float) -> str:
    """Return the remaining time of a call as a latency in ms, rounded down to two digits."""
    left_ms = max(left_s * 1e3, 0.0)
    if left_ms < 1:
        return f"{left_ms:.1f}"
    step = 10.0 ** (floor(log10(left_ms)) - 1)
    return f"{floor(left_ms / step) * step:g}"


def _names_latency(request: OipRequest, metadata: Mapping[str, str]) -> bool:
    return (
        any(request.parameters.get(name) for name in _LATENCIES)
        or h.LATENCY_MS in metadata
        or h.DEADLINE_MS in metadata
    )


def _prompts(request: InferMessage) -> int:
    """Return the number of inputs that a request states."""
    return request.head.inputs[0].shape[0] if request.head.inputs and request.head.inputs[0].shape else 1


def _open(method: Callable[[], Awaitable[Message]]) -> Handler:
    """Return the handler of a probe without authentication; its empty message is not received."""

    async def answer(_messages: AsyncIterator[bytes], _call: Call) -> bytes:
        return (await method()).SerializeToString()

    return unary(answer)


def _filled(message: Message, content: dict[str, Any]) -> Message:
    """Return the message with the content of the HTTP response, without fields that it does not have."""
    return ParseDict(content, message, ignore_unknown_fields=True)
