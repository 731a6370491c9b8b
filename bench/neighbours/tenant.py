"""Tenant of a system: plain aiokafka, with or without signatures."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from schemas import headers as h
from schemas.topics import task_topic, tenant_prefix
from security.signature import parse_key, sign

TASK: Final = "digits"
LARGEST_BYTES: Final = 8 * 2**20


async def pace(per_s: float) -> AsyncGenerator[int]:
    """Yield step numbers from 0, `per_s` of them per second."""
    start = time.monotonic()
    for number in count():
        yield number
        await asyncio.sleep(max(0.0, start + (number + 1) / per_s - time.monotonic()))


class TenantClient(msgspec.Struct, frozen=True):
    """A tenant's name and its access to Kafka."""

    name: str
    kafka: str
    key: str
    """Signing key; empty: its queries carry its name without a signature."""

    def reply_topic(self, name: str) -> str:
        """Return the name of a reply topic that this tenant may use."""
        return f"{tenant_prefix(self.name)}{name}" if self.key else f"replies.{self.name}.{name}"

    @asynccontextmanager
    async def sender(self, **options: Any) -> AsyncGenerator["Sender"]:
        """Open a producer of this tenant; `options` are aiokafka's."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", max_request_size=LARGEST_BYTES, **options)
        async with producer:
            yield Sender(self, producer)


class Sender:
    """Producer of one tenant's queries."""

    def __init__(self, tenant: TenantClient, producer: AIOKafkaProducer) -> None:
        self._tenant = tenant
        self.producer = producer

    async def send(self, query_id: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Write a query to the task's topic, and wait until it is in a batch of the producer."""
        tenant = self._tenant
        fields = {h.ID: query_id, h.TENANT: tenant.name, **{name: text.decode() for name, text in headers}}
        if tenant.key:
            fields[h.SIGNATURE] = sign(parse_key(tenant.key), TASK, fields, value, int(time.time() * 1000))
        await self.producer.send(
            task_topic(TASK), value, headers=[(name, text.encode()) for name, text in fields.items()]
        )
