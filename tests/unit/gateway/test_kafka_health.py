"""Queries that Kafka does not take, with futures in its place."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, PolicyViolationError

from broker.kafka_types import KafkaError, NotAllowed, RecordTooLarge, TopicClosed, UnknownTopic
from gateway.kafka_health import KafkaHealth
from schemas.errors import Overloaded, QueryError


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

    async def test_a_record_that_kafka_did_not_take_fails_its_query_at_once(self, health: KafkaHealth) -> None:
        ack, reply = _futures()
        health.watch(ack, reply)
        ack.set_exception(KafkaTimeoutError("Kafka did not answer"))
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
    async def test_what_is_refused_for_what_it_is_or_where_it_goes_is_no_outage(
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

    async def test_a_topic_without_a_leader_is_no_outage_while_others_are_written_to(self, health: KafkaHealth) -> None:
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
