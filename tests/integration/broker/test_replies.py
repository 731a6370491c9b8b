"""Results find those who wait for them, once."""

import asyncio
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from broker.client import open_admin
from broker.producer import Producer
from broker.replies import Replies
from broker.settings import KafkaSettings
from schemas.errors import Internal, InvalidRequest, Overloaded
from schemas.headers import RawHeaders
from schemas.topics import reply_topic


def headers(query_id: str) -> RawHeaders:
    return [("infaas-id", query_id.encode()), ("infaas-status", b"ok")]


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": reason}) or 0.0


async def test_a_result_comes_to_its_waiter_and_only_once(kafka: KafkaSettings) -> None:
    owner, before = str(uuid4()), dropped("duplicate")
    async with Replies(kafka, owner) as replies, Producer(kafka, "test") as producer, asyncio.timeout(20):
        assert replies.topic == reply_topic(owner)
        first, second = replies.expect("1"), replies.expect("2")
        for query_id, value in (("2", b"two"), ("1", b"one"), ("1", b"again"), ("0", b"nobody's")):
            await producer.send_and_wait(replies.topic, value, headers=headers(query_id))
        assert (await first).value == b"one"
        assert (await second).value == b"two"
        last = replies.expect("3")
        await producer.send_and_wait(replies.topic, b"three", headers=headers("3"))
        assert (await last).id == "3"
        assert dropped("duplicate") == before + 1


async def test_the_topic_is_gone_after_a_clean_exit(kafka: KafkaSettings) -> None:
    async with Replies(kafka, str(uuid4())) as replies:
        topic = replies.topic
    async with open_admin(kafka) as admin, asyncio.timeout(10):
        while topic in await admin.list_topics():  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)


async def test_waiting_is_bounded_and_forgetting_makes_room(kafka: KafkaSettings) -> None:
    async with Replies(kafka, str(uuid4()), max_waiting=2) as replies:
        replies.expect("1")
        replies.expect("2")
        with pytest.raises(Overloaded):
            replies.expect("3")
        replies.forget("1")
        replies.forget("never expected")
        replies.expect("3")
        replies.forget("3")
        with pytest.raises(InvalidRequest, match="already waiting"):
            replies.expect("2")


async def test_records_that_are_no_results_are_passed_over(kafka: KafkaSettings) -> None:
    before = dropped("invalid")
    async with (
        Replies(kafka, str(uuid4())) as replies,
        Producer(kafka, "test") as producer,
        asyncio.timeout(10),
    ):
        future = replies.expect("1")
        await producer.send_and_wait(replies.topic, b"no headers")
        await producer.send_and_wait(replies.topic, b"x", headers=[("infaas-id", b"\xff")])
        await producer.send_and_wait(replies.topic, b"x", headers=[*headers("1"), ("infaas-compute-ns", b"soon")])
        await producer.send_and_wait(replies.topic, b"one", headers=headers("1"))
        assert (await future).value == b"one"
    assert dropped("invalid") == before + 3


async def test_whoever_waits_fails_at_once_when_the_topic_is_no_longer_read(kafka: KafkaSettings) -> None:
    async with Replies(kafka, str(uuid4())) as replies:
        future = replies.expect("1")
    with pytest.raises(Internal):
        await future
    with pytest.raises(Internal):
        replies.expect("2")
