"""Tests of `KafkaHealth`, with futures instead of acknowledgements of Kafka."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, PolicyViolationError

from broker.kafka.types import KafkaError, NotAllowed, RecordTooLarge, TopicClosed, UnknownTopic
from gateway.limits.kafka_health import KafkaHealth
from schemas.errors import Overloaded, QueryError


class TestKafkaHealth:
    @pytest.fixture
    async def health(self) -> KafkaHealth:
        return KafkaHealth(ack_timeout_s=0.05)

    async def test_health_stays_up_after_acknowledgement(self, health: KafkaHealth) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        ack.set_result(None)
        await asyncio.sleep(0)
        assert health.up
        assert not reply.done()
        health.close()

    async def test_health_fails_query_of_unwritten_record(self, health: KafkaHealth) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        ack.set_exception(KafkaTimeoutError("Kafka did not answer"))
        with pytest.raises(Overloaded, match="Kafka"):
            await reply
        assert not health.up
        with pytest.raises(Overloaded):
            health.check()
        health.close()

    async def test_health_is_down_until_an_acknowledgement(self, health: KafkaHealth) -> None:
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

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (NotAllowed("infaas.tasks.digits"), "may not write"),
            (UnknownTopic("infaas.tasks.digits"), "missing"),
            (TopicClosed("infaas.tasks.digits"), "unregistered"),
            (RecordTooLarge(), "larger"),
            (PolicyViolationError(), "PolicyViolationError"),
        ],
    )
    async def test_health_stays_up_if_kafka_refuses_a_record(
        self, health: KafkaHealth, error: KafkaError, told: str
    ) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        ack.set_exception(error)
        with pytest.raises(QueryError, match=told):
            await reply
        assert health.up
        health.check()
        health.close()

    async def test_health_stays_up_if_one_topic_has_no_leader(self, health: KafkaHealth) -> None:
        stuck, other = _futures(), _futures()
        health.watch(*stuck)
        health.watch(*other)
        await asyncio.sleep(0)
        other[0].set_result(None)
        with pytest.raises(Overloaded, match="Kafka"):
            await stuck[1]
        assert health.up
        stuck[0].set_exception(KafkaTimeoutError("it has no leader"))
        await asyncio.sleep(0)
        assert health.up
        health.close()


def _futures() -> tuple[asyncio.Future[Any], asyncio.Future[Any]]:
    loop = asyncio.get_running_loop()
    return loop.create_future(), loop.create_future()
