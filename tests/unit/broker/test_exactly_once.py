"""Tests of `PartitionWriter`: cancellation while a transaction can be neither continued nor aborted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self
from unittest.mock import Mock

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from broker.delivery import exactly_once
from broker.delivery.exactly_once import OutgoingRecord, PartitionWriter
from broker.kafka.settings import KafkaSettings
from tests.waiting import PATIENCE_S


class SilentProducer:
    """Producer whose records are never acknowledged."""

    def __init__(self, abort: Callable[[], Awaitable[None]]) -> None:
        self.sending = asyncio.Event()
        self._abort = abort

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def transaction(self) -> Self:
        return self

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None:
        await self._abort()

    async def send(self, *_: object, **__: object) -> None:
        self.sending.set()
        await asyncio.Event().wait()


async def is_fenced() -> None:
    raise ProducerFenced


async def hears_nothing() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("abort", [is_fenced, hears_nothing])
async def test_partition_writer_can_be_cancelled_in_any_state(
    monkeypatch: pytest.MonkeyPatch, abort: Callable[[], Awaitable[None]]
) -> None:
    producer = SilentProducer(abort)
    monkeypatch.setattr(exactly_once, "new_transactional_producer", Mock(return_value=producer))
    monkeypatch.setattr(exactly_once, "STOP_S", 0.01)
    async with PartitionWriter(KafkaSettings(), "test", "group", TopicPartition("in", 0)) as writer:
        writing = asyncio.create_task(writer.write([OutgoingRecord("out", 0, None, b"", [])], 1))
        await producer.sending.wait()
        writing.cancel()
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(asyncio.CancelledError):
                await writing
