"""Clients of four kinds at once: our library, a plain Kafka program, HTTP, gRPC. Each sends queries at a fixed rate.

They behave as sensible clients do. The library's errors are outcomes. The plain program counts a query once Kafka has
acknowledged it, and reads the task's results topic itself. The clients of HTTP and gRPC retry with the same id after a
broken connection or an error of the server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import aiohttp
import grpc
import grpc.aio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from bench.load.pace import pace, small_query
from broker.dead_letters.letter import REASON
from gateway.grpc.inference_pb2 import ModelInferRequest
from infaas.client import InfaasClient
from schemas import headers as h
from schemas.errors import DeadlineExceeded, QueryError
from schemas.topics import DEAD_LETTERS, results_topic, task_topic
from tests.chaos.ledger import NO_ANSWER, OK, Ledger
from zoo.samples import labelled

TASK: Final = "digits"
CLIENTS: Final = ("library", "kafka", "http", "grpc")
PATIENCE_S: Final = 150.0
"""Seconds that a client waits for an answer; longer than any fault lasts."""
_RETRY_S: Final = 0.25
_ANSWER_S: Final = 30.0
"""Seconds until a client of the gateway asks again."""
_OF_SERVER: Final = (
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)  # fmt: skip
_EARLY_AT_MOST: Final = 10_000
_OFFLINE_EVERY: Final = 4
"""Interval of offline queries among the plain program's queries."""


async def at_rate(
    name: str, rate: float, ask: Callable[[str], Coroutine[None, None, None]], stop: asyncio.Event
) -> None:
    """Send `rate` queries per second with new ids until `stop` is set, each in a task; then wait for all tasks."""
    async with asyncio.TaskGroup() as queries:
        async for number in pace(rate):
            if stop.is_set():
                return
            queries.create_task(ask(f"{name}-{number}"))  # bounded by the rate times the patience


async def ask_by_library(ledger: Ledger, kafka: str, run: str, rate: float, stop: asyncio.Event) -> None:
    """Send queries with our client library."""
    inputs, _labels = labelled(TASK)
    one = {name: array[:1] for name, array in inputs.items()}
    async with InfaasClient(kafka=kafka) as client:

        async def ask(query_id: str) -> None:
            ledger.ask("library", query_id, time.monotonic())
            try:
                await client.infer(TASK, one, query_id=query_id, timeout_s=PATIENCE_S)
                outcome = OK
            except DeadlineExceeded:
                outcome = NO_ANSWER
            except QueryError as error:
                outcome = error.code.value
            ledger.close(query_id, outcome, time.monotonic())

        await at_rate(f"{run}-library", rate, ask, stop)


async def ask_by_kafka(ledger: Ledger, kafka: str, run: str, rate: float, stop: asyncio.Event) -> None:
    """Send queries with a plain producer, without a reply topic."""
    value, headers = small_query()
    # Not idempotent: the recovery of aiokafka's idempotent producer is not the subject of this test.
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")

    async def ask(query_id: str) -> None:
        offline = int(query_id.rpartition("-")[2]) % _OFFLINE_EVERY == 0
        mode = [(h.MODE, b"offline")] if offline else []
        asked_at = time.monotonic()
        try:
            await (await producer.send(task_topic(TASK), value, headers=[(h.ID, query_id.encode()), *headers, *mode]))
        except KafkaError:
            return  # rejected, or written without an acknowledgement: not counted
        ledger.ask("kafka", query_id, asked_at)

    async with producer:
        await at_rate(f"{run}-kafka", rate, ask, stop)


async def read_results(ledger: Ledger, kafka: str) -> None:
    """Read the task's results and the dead letters until cancelled, as any Kafka program may."""
    topics = (results_topic(TASK), DEAD_LETTERS)
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=kafka, auto_offset_reset="earliest")
    early: dict[str, str] = {}
    async with consumer:
        while True:
            found = [record for records in (await consumer.getmany(timeout_ms=200)).values() for record in records]
            for record in found:
                fields = {name: (text or b"").decode(errors="replace") for name, text in record.headers}
                query_id = fields.get(h.ID, "")
                if record.topic == DEAD_LETTERS:
                    ledger.bury(query_id, fields.get(REASON, ""))
                elif "-kafka-" in query_id or "-odd-" in query_id:
                    early[query_id] = fields.get(h.STATUS, "")
            # A result may arrive before the acknowledgement of its query, so each is checked again later.
            for query_id in [query_id for query_id in early if ledger.is_known(query_id)]:
                ledger.close(query_id, early.pop(query_id), time.monotonic(), repeats=True)
            while len(early) > _EARLY_AT_MOST:  # of queries written without an acknowledgement
                early.pop(next(iter(early)))


async def ask_by_http(ledger: Ledger, gateway: str, run: str, rate: float, stop: asyncio.Event) -> None:
    """Send queries to the gateway, with retries under the same id."""
    value, raw = small_query()
    headers = {name: text.decode() for name, text in raw}
    url = f"{gateway}/v2/models/{TASK}/infer"
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:

        async def ask(query_id: str) -> None:
            await _until_answered(
                ledger, "http", query_id, lambda: _post(http, url, value, {**headers, h.ID: query_id})
            )

        await at_rate(f"{run}-http", rate, ask, stop)


async def ask_by_grpc(ledger: Ledger, address: str, run: str, rate: float, stop: asyncio.Event) -> None:
    """Send queries to the gateway by grpc.aio, with retries under the same id."""
    inputs, _labels = labelled(TASK)
    tensors = [
        {"name": name, "datatype": "FP32", "shape": rows[:1].shape, "contents": {"fp32_contents": rows[0].ravel()}}
        for name, rows in inputs.items()
    ]
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def ask(query_id: str) -> None:
            message = ModelInferRequest(model_name=TASK, id=query_id, inputs=tensors).SerializeToString()
            await _until_answered(ledger, "grpc", query_id, lambda: _call(call, message))

        await at_rate(f"{run}-grpc", rate, ask, stop)


async def _until_answered(ledger: Ledger, client: str, query_id: str, ask: Callable[[], Awaitable[str]]) -> None:
    """Ask until the outcome is another than `NO_ANSWER`, or the patience ends."""
    asked_at = time.monotonic()
    ledger.ask(client, query_id, asked_at)
    outcome = NO_ANSWER
    while outcome == NO_ANSWER and time.monotonic() - asked_at < PATIENCE_S:
        outcome = await ask()
        if outcome == NO_ANSWER:
            await asyncio.sleep(_RETRY_S)
    ledger.close(query_id, outcome, time.monotonic())


async def _call(call: Any, message: bytes) -> str:
    try:
        await call(message, timeout=_ANSWER_S)
    except grpc.aio.AioRpcError as error:
        return NO_ANSWER if error.code() in _OF_SERVER else error.code().name
    return OK


async def _post(http: aiohttp.ClientSession, url: str, value: bytes, headers: dict[str, str]) -> str:
    try:
        async with http.post(url, data=value, headers=headers) as response:
            await response.read()
    except (aiohttp.ClientError, TimeoutError):
        return NO_ANSWER
    if response.status >= 500:
        return NO_ANSWER
    return OK if response.status == 200 else f"HTTP {response.status}"
