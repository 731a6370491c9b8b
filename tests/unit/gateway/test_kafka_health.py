"""Queries that Kafka does not take, with futures in its place."""

import asyncio
from typing import Any

import pytest

from gateway.kafka_health import KafkaHealth
from schemas.errors import Overloaded


class TestKafkaHealth:
    """The watch over acknowledgements, with futures in Kafka's place."""

    @pytest.fixture
    async def health(self) -> KafkaHealth:
        return KafkaHealth(ack_timeout_s=0.05)

    async def test_an_acknowledged_record_leaves_it_up(self, health: KafkaHealth) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        ack.set_result(None)
        await asyncio.sleep(0)
        assert health.up
        assert not reply.done()
        health.close()

    async def test_a_refused_record_fails_its_query_at_once(self, health: KafkaHealth) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        ack.set_exception(RuntimeError("no leader"))
        with pytest.raises(Overloaded, match="Kafka"):
            await reply
        assert not health.up
        with pytest.raises(Overloaded):
            health.check()
        health.close()

    async def test_silence_counts_as_down_and_an_acknowledgement_as_up(self, health: KafkaHealth) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        with pytest.raises(Overloaded, match="Kafka"):
            await reply
        assert not health.up
        ack.set_result(None)
        await asyncio.sleep(0)
        assert health.up
        health.check()
        health.close()


def _futures() -> tuple[asyncio.Future[Any], asyncio.Future[Any]]:
    loop = asyncio.get_running_loop()
    return loop.create_future(), loop.create_future()
