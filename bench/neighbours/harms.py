"""Harms by a tenant: a table of coroutines, each of which runs until it is cancelled."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Final

import aiohttp
import numpy as np
from aiokafka import AIOKafkaConsumer

from bench.load.pace import pace, record_of, small_query
from bench.neighbours.tenant import TASK, TenantClient, make_topic
from schemas import headers as h
from schemas.oip import encode_request
from schemas.topics import task_topic
from zoo.samples import labelled

ARGUMENTS: Final = "INFAAS_BENCH_HARM"
"""Variable with the harm, the tenant's name, Kafka, the tenant's key and the gateway, as JSON."""
_SILENT_CONNECTIONS: Final = 1100
_LARGE_ROWS: Final = 16_384


async def lie_in_headers(tenant: TenantClient, gateway: str) -> None:
    """Claim 65,536 inputs and 10,000 refused queries with each query of one input, ten times per second."""
    del gateway
    value, headers = small_query()
    lies = [(h.BATCH, b"65536"), (h.REJECTED_UPSTREAM, b"10000"), (h.LATENCY_MS, b"500")]
    async with tenant.sender() as sender:
        async for number in pace(10):
            await sender.send(f"{tenant.name}-lie-{number}", value, [*headers, *lies])


async def refuse_results(tenant: TenantClient, gateway: str) -> None:
    """Name a reply topic that rejects all records, a hundred times per second."""
    del gateway
    topic = tenant.reply_topic("refusing")
    await make_topic(tenant.kafka, topic, {"message.timestamp.before.max.ms": "0"})
    value, headers = small_query()
    async with tenant.sender() as sender:
        async for number in pace(100):
            await sender.send(f"{tenant.name}-refusing-{number}", value, [*headers, (h.REPLY_TO, topic.encode())])


async def abort_transactions(tenant: TenantClient, gateway: str) -> None:
    """Write 20 queries in a transaction and abort it, twice per second; the last one stays open."""
    del gateway
    value, headers = small_query()
    async with tenant.sender(transactional_id=f"{tenant.name}-aborts") as sender:
        async for number in pace(2):
            await sender.producer.begin_transaction()
            for each in range(20):
                await sender.send(f"{tenant.name}-aborted-{number}-{each}", value, headers)
            await sender.producer.flush()
            await sender.producer.abort_transaction()


async def send_large_bodies(tenant: TenantClient, gateway: str) -> None:
    """Send a valid query of 4 MiB every half second."""
    del gateway
    inputs, _labels = labelled("digits")
    rows = {name: np.repeat(array[:1], _LARGE_ROWS, axis=0) for name, array in inputs.items()}
    value, form = record_of(encode_request(rows))
    headers = [(h.BATCH, str(_LARGE_ROWS).encode()), *form]
    async with tenant.sender() as sender:
        async for number in pace(2):
            await sender.send(f"{tenant.name}-large-{number}", value, headers)


async def hold_streams(tenant: TenantClient, gateway: str) -> None:
    """Hold 1,100 silent connections to the gateway's port for results, and reopen closed ones."""
    host, port = await _reply_stream(tenant.kafka, gateway)
    held: set[asyncio.StreamWriter] = set()
    try:
        async for _ in pace(200):
            held = {writer for writer in held if not writer.is_closing()}
            if len(held) < _SILENT_CONNECTIONS:
                with suppress(OSError):
                    _reader, writer = await asyncio.open_connection(host, port)
                    held.add(writer)
    finally:
        for writer in held:
            writer.transport.abort()


def flood(rate: float, mode: str, latency_ms: int | None) -> Callable[[TenantClient, str], Awaitable[None]]:
    """Return a harm that sends queries at a rate per second."""

    async def ask(tenant: TenantClient, gateway: str) -> None:
        del gateway
        value, headers = small_query()
        needs = [(h.MODE, mode.encode())]
        needs += [(h.LATENCY_MS, str(latency_ms).encode())] if latency_ms else []
        async with tenant.sender(linger_ms=5) as sender:
            numbers = count()
            async for _ in pace(50):
                for number in (next(numbers) for _ in range(round(rate / 50))):
                    await sender.send(f"{tenant.name}-{mode}-{number}", value, [*headers, *needs])

    return ask


HARMS: Final[dict[str, Callable[[TenantClient, str], Awaitable[None]]]] = {
    "lying headers": lie_in_headers,
    "refusing reply topic": refuse_results,
    "aborted transactions": abort_transactions,
    "4 MiB bodies": send_large_bodies,
    "silent streams": hold_streams,
    "online flood": flood(1000, "online", 200),
    "offline flood": flood(500, "offline", None),
}


async def _reply_stream(kafka: str, gateway: str) -> tuple[str, int]:
    """Return the address at which a gateway receives results, from a header of its queries."""
    body = {"inputs": [{"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}]}
    async with aiohttp.ClientSession() as http, AIOKafkaConsumer(task_topic(TASK), bootstrap_servers=kafka) as consumer:
        await consumer.seek_to_end()
        await consumer.getmany(timeout_ms=100)
        async with http.post(f"{gateway}/v2/models/{TASK}/infer", json=body) as response:
            await response.read()
        async for record in consumer:
            if address := h.as_text(record.headers).get(h.REPLY_STREAM):
                host, _, port = address.split()[0].rpartition(":")
                return host.strip("[]"), int(port)
    raise AssertionError("the consumer never ends")


async def _harm() -> None:
    name, *tenant, gateway = json.loads(os.environ[ARGUMENTS])
    await HARMS[name](TenantClient(*tenant), gateway)


if __name__ == "__main__":
    asyncio.run(_harm())
