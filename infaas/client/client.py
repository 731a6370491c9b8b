"""Client for asyncio: sends a task's inputs with the needs of the answer, and returns arrays.

    async with InfaasClient(kafka="127.0.0.1:9092") as client:           # or gateway="http://127.0.0.1:8080"
        answer = await client.infer("sentiment", {"input_ids": ids}, latency_ms=50, min_accuracy=0.85)
        answer.outputs["logits"], answer.variant

Thousands of calls may be in flight; calls beyond `max_in_flight` wait. A call returns the first result with its id and
ignores later deliveries of the same query. Every error of a query is a `QueryError`: `error.retryable` is true if a
retry may succeed, and `error.retry_after_s` is the pause before the retry, if known.
"""

import os
import time
from asyncio import Task, TaskGroup
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from broker.kafka.settings import KafkaSettings
from infaas.client.answer import Answer, TextPart, answer_of, parsed_explanation
from infaas.client.generation import Prompt, encode_prompt
from infaas.client.http_transport import HttpTransport
from infaas.client.kafka_transport import KafkaTransport
from infaas.client.transport import EncodedQuery, Transport
from process.gateway_access import KEY_ENV, ClientTls, checked_key, is_url, without_user
from process.security.signature import parse_key
from schemas import headers as h
from schemas.defaults import ANSWER_TIMEOUT_S, GATEWAY_PORT, LOOPBACK, MAX_IN_FLIGHT
from schemas.errors import InvalidRequest, OperatorError, QueryError
from schemas.generated_answer import AnswerRestart
from schemas.generation import AnswerPart
from schemas.oip import encode_request
from schemas.query import Mode
from schemas.query_names import Parameter, check_query_names, nearest_name
from schemas.result import OK, error_explanation
from schemas.tensors import Array, bytes_array
from schemas.trace_context import current_traceparent


class QueryOptions(TypedDict, total=False):
    """Options of a query besides its task and inputs."""

    latency_ms: float
    """Deadline of the answer, in milliseconds from the call."""
    min_accuracy: float
    """Minimum accuracy of the variant, 0..1, as measured on the task's validation set."""
    max_cost: float
    """Maximum price, in USD per 1000 such queries, or per 1000 tokens of a generative answer."""
    ttft_ms: float
    """Generative tasks: maximum time to the first token, in milliseconds from the call."""
    tpot_ms: float
    """Generative tasks: maximum mean time of each token after the first, in milliseconds."""
    max_tokens: int
    """Generative tasks: maximum tokens of the answer."""
    target: str
    """Name of an architecture or a variant; no other may answer."""
    mode: Mode | str
    """`online`, the default, or `offline`: computed when workers are idle."""
    allow_late: bool
    """True to get a late answer instead of `Overloaded`."""
    explain: bool
    """True to get the reasons of the choice in `Answer.explanation`, or of a refusal in `QueryError.explanation`."""
    tenant: str
    """Tenant to which the query is attributed when load is shared fairly."""
    parameters: Mapping[str, Parameter]
    """Parameters of the model, as the sampling options of a generative task: `temperature`, `seed`, ..."""
    outputs: tuple[str, ...]
    """Names of the outputs to return; default: all."""
    query_id: str
    """Id of the query, which is answered once; default: a random id."""
    timeout_s: float
    """Maximum wait for the result once a slot is free (`max_in_flight`); default: 30 s."""
    traceparent: str
    """W3C trace context of the caller."""
    json: bool
    """True to send and receive tensors as JSON instead of binary."""


class SystemOptions(TypedDict, total=False):
    """Address of the system, exactly one of `kafka` and `gateway`, and options of the connection."""

    kafka: str | KafkaSettings | None
    """Broker to send queries to: `host:port`, or complete settings."""
    gateway: str | None
    """URL of the gateway for queries over HTTP, with or without `/v2`."""
    tls: ClientTls
    """Certificates for an `https://` gateway; default: from environment variables, see `ClientTls`."""
    tenant: str
    """Over Kafka: tenant whose own topics are used. Only the tenant's Kafka user may use them."""
    signing_key: str
    """Over Kafka: key that signs queries on behalf of its tenant, from `infaas tenants key`."""
    key: str | None
    """API key or token for the gateway; default: the environment variable INFAAS_KEY."""
    max_in_flight: int
    """Maximum number of calls that wait for their results at once; default: 2000."""


class InfaasClient:
    """Client of one system; an async context manager for any number of tasks of one event loop.

    Raises:
        OperatorError: in the constructor, not exactly one of `kafka` and `gateway` is given; on entry, Kafka cannot be
            reached or refuses this user.
    """

    def __init__(self, **system: Unpack[SystemOptions]) -> None:
        check_system(system)
        self._transport = transport_to(system)
        self._tasks = TaskGroup()
        self._open: set[Task[Answer | QueryError]] = set()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in self._open:
            call.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)  # the client's own tasks have no errors to add
        finally:
            await self._transport.__aexit__(kind, error, trace)

    async def infer(self, task: str, inputs: Mapping[str, ArrayLike], **options: Unpack[QueryOptions]) -> Answer:
        """Send a query and wait for its answer. Through a gateway, `task` may also name an architecture or a variant.

        Raises:
            QueryError: the query failed; the subclass names the cause, `retryable` is true if a retry may succeed.
        """
        return await self.ask(encode(task, inputs, options))

    async def ask(self, query: EncodedQuery) -> Answer:
        """Send an encoded query and wait for its answer; otherwise like `infer`."""
        result = await self._transport.ask(query)
        if result.status != OK:
            raise result.failure(parsed_explanation(result.explanation) or error_explanation(result.value))
        return answer_of(result, time.perf_counter() - query.begun_s, query.latency_s)

    async def stream(self, task: str, prompt: Prompt, **options: Unpack[QueryOptions]) -> AsyncGenerator[TextPart]:
        """Send a prompt, or a chat as a list of messages, to a generative task, and yield its answer as it is made.

            async for part in client.stream("text", "Once upon a time", max_tokens=50, ttft_ms=500):
                print(part.text, end="")

        Each token comes once, in order; the last part has the whole answer. Closing the generator ends the query.

        Raises:
            QueryError: the query failed, perhaps after some parts.
        """
        query = encode_prompt(encode, task, prompt, options)
        async with self._transport.stream(query) as events:
            async for event in events:
                if isinstance(event, AnswerPart):
                    yield TextPart(text=event.text, tokens=event.tokens, logprobs=event.logprobs)
                elif isinstance(event, AnswerRestart):
                    yield TextPart(text="", restarted=True)
                elif event.status != OK:
                    raise event.failure(parsed_explanation(event.explanation) or error_explanation(event.value))
                else:
                    answer = answer_of(event, time.perf_counter() - query.begun_s, query.latency_s)
                    yield TextPart(text="", answer=answer)

    async def infer_many(
        self,
        task: str,
        batches: Iterable[Mapping[str, ArrayLike]] | AsyncIterable[Mapping[str, ArrayLike]],
        *,
        in_flight: int = 256,
        **options: Unpack[QueryOptions],
    ) -> AsyncGenerator[Answer | QueryError]:
        """Send a stream of queries, `in_flight` at a time, and yield the answer or the error of each, in order.

        Inputs are taken from `batches` no faster than answers are consumed.
        """
        check_stream(options)
        open_calls: deque[Task[Answer | QueryError]] = deque()
        try:
            async for inputs in _stream(batches):
                open_calls.append(self._start(_infer_or_error(self, task, inputs, options)))
                if len(open_calls) >= in_flight:
                    yield await open_calls.popleft()
            while open_calls:
                yield await open_calls.popleft()
        finally:
            for call in open_calls:
                call.cancel()

    def _start(self, call: Coroutine[Any, Any, Answer | QueryError]) -> Task[Answer | QueryError]:
        task = self._tasks.create_task(call)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task


def check_system(system: SystemOptions) -> None:
    """Check that exactly one of `kafka` and `gateway` is given, with options that fit it.

    Raises:
        OperatorError: an option is unknown or does not fit, or `gateway` is not a URL.
    """
    for name in system.keys() - _SYSTEM_OPTIONS:
        nearest = nearest_name(name, _SYSTEM_OPTIONS)
        instead = f"did you mean {nearest}=?" if nearest else f"there are {', '.join(_SYSTEM_OPTIONS)}"
        raise OperatorError(f"the client has no option {name}=: {instead}")
    kafka, gateway = system.get("kafka"), system.get("gateway")
    if (kafka is None) == (gateway is None):
        raise OperatorError("the client needs exactly one of kafka= and gateway=")
    if gateway is not None and not is_url(gateway):
        shown = without_user(gateway)
        raise OperatorError(f"gateway={shown!r}: write its URL, e.g. http://{LOOPBACK}:{GATEWAY_PORT}")
    if gateway is not None and ("tenant" in system or "signing_key" in system):
        raise OperatorError("tenant= and signing_key= are for kafka= only; a gateway authenticates by key=")
    if kafka is not None and system.get("key") is not None:
        raise OperatorError("key= is for gateway= only; over Kafka use tenant= or signing_key=")


def check_stream(options: QueryOptions) -> None:
    """Check options that apply to all queries of a stream.

    Raises:
        InvalidRequest: an option is unknown, or is `query_id`.
    """
    _check_options(options)
    if "query_id" in options:
        raise InvalidRequest("infer_many sends many queries: they cannot share one query_id")


def transport_to(system: SystemOptions) -> Transport:
    """Return the transport to a system whose options have been checked; its context is not entered yet.

    Raises:
        OperatorError: a key is malformed.
    """
    kafka, most = system.get("kafka"), system.get("max_in_flight", MAX_IN_FLIGHT)
    if kafka is None:
        key = checked_key(system.get("key") or os.environ.get(KEY_ENV, ""))
        return HttpTransport(system.get("gateway") or "", key, most, system.get("tls", ClientTls()))
    settings = kafka if isinstance(kafka, KafkaSettings) else KafkaSettings(bootstrap=kafka)
    key = system.get("signing_key")
    signing_key = None if key is None else parse_key(key)
    return KafkaTransport(settings, most, tenant=system.get("tenant"), signing_key=signing_key)


async def _infer_or_error(
    client: InfaasClient, task: str, inputs: Mapping[str, ArrayLike], options: QueryOptions
) -> Answer | QueryError:
    try:
        return await client.infer(task, inputs, **options)
    except QueryError as error:
        return error


async def _stream(
    batches: Iterable[Mapping[str, ArrayLike]] | AsyncIterable[Mapping[str, ArrayLike]],
) -> AsyncGenerator[Mapping[str, ArrayLike]]:
    if isinstance(batches, AsyncIterable):
        async for inputs in batches:
            yield inputs
    else:
        for inputs in batches:
            yield inputs


_OTHER_OPTIONS: Final = tuple(sorted(QueryOptions.__annotations__.keys() - h.NEEDS.keys()))
_OPTIONS: Final = frozenset(QueryOptions.__annotations__)
_SYSTEM_OPTIONS: Final = tuple(SystemOptions.__annotations__)


def _check_options(options: QueryOptions) -> None:
    """Raise InvalidRequest for an unknown option, since a misspelt need would be ignored silently."""
    if not _OPTIONS.issuperset(options):
        check_query_names(options, *_OTHER_OPTIONS)


_HEADERS: Final = h.NEEDS | {"traceparent": h.TRACEPARENT}


def encode(task: str, inputs: Mapping[str, ArrayLike], options: QueryOptions) -> EncodedQuery:
    """Encode a query for either transport.

    Raises:
        InvalidRequest: there are no inputs, the protocol has no type for one, or an option is unknown.
    """
    begun_s = time.perf_counter()
    _check_options(options)
    arrays: dict[str, Array] = {name: as_array(values) for name, values in inputs.items()}
    if not arrays:
        raise InvalidRequest("a query needs at least one input")
    query_id = options.get("query_id") or uuid4().hex
    try:
        message = encode_request(
            arrays,
            request_id=query_id,
            parameters=options.get("parameters"),
            outputs=options.get("outputs", ()),
            binary=not options.get("json", False),
        )
    except TypeError as error:
        raise InvalidRequest(str(error)) from error
    fields = {header: h.value_text(options[name]) for name, header in _HEADERS.items() if name in options}
    if h.TRACEPARENT not in fields and (traceparent := current_traceparent()):
        fields[h.TRACEPARENT] = traceparent
    fields[h.BATCH] = str(next((array.shape[0] for array in arrays.values() if array.ndim), 1))
    latency_ms = options.get("latency_ms")
    return EncodedQuery(
        query_id,
        task,
        message,
        fields,
        options.get("timeout_s", ANSWER_TIMEOUT_S),
        latency_s=None if latency_ms is None else latency_ms / 1e3,
        begun_s=begun_s,
    )


def as_array(values: ArrayLike) -> Array:
    """Return the values as an array; str and bytes stay objects, since numpy would cut trailing NULs."""
    items = [values] if isinstance(values, (str, bytes)) else values
    texts = [item for item in items if isinstance(item, (str, bytes))] if isinstance(items, (list, tuple)) else []
    if isinstance(items, (list, tuple)) and 0 < len(texts) == len(items):
        return bytes_array(texts)
    return np.asarray(values)
