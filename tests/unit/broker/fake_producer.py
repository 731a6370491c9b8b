"""What stands in for a producer: whoever says what becomes of a record by `post` gets `send` from here."""

import asyncio
from abc import ABC, abstractmethod

from broker.kafka_types import KafkaError
from broker.producer import Ack, OnAck
from schemas.headers import RawHeaders


class FakeProducer(ABC):
    """A producer without Kafka."""

    @abstractmethod
    async def post(
        self,
        topic: str,
        value: bytes | None,
        on_ack: OnAck,
        *,
        key: bytes | None = None,
        headers: RawHeaders | None = None,
        partition: int | None = None,
    ) -> None: ...

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: RawHeaders | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Ack]:
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()

        def on_ack(outcome: Ack | KafkaError) -> None:
            if isinstance(outcome, Ack):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        await self.post(topic, value, on_ack, key=key, headers=headers, partition=partition)
        return future
