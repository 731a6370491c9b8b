"""Tests of dead letters: they keep all headers of a record except secrets, whatever bytes the names hold."""

import asyncio

from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from broker.dead_letters import parse_letter, publish_dead_letter
from broker.kafka_types import Record
from broker.producer import OnAck, RecordSender
from schemas.headers import REPLY_STREAM, RawHeaders

_NONE: RawHeaders = []
NAMES = st.one_of(
    st.text(min_size=1, max_size=9).filter(lambda name: name.isprintable()),
    st.binary(min_size=1, max_size=9).map(lambda raw: raw.decode(errors="surrogateescape")),
    st.sampled_from(["infaas-dead-name-", "infaas-dead-name-6162", "infaas-dead-name-zz", "name\udcff"]),
)


class Sender(RecordSender):
    """Sender that keeps the headers of the last record."""

    def __init__(self) -> None:
        self.headers: RawHeaders = []

    async def post(
        self,
        topic: str,
        value: bytes | None,
        on_ack: OnAck,
        *,
        key: bytes | None = None,
        headers: RawHeaders = _NONE,
        partition: int | None = None,
        linger_s: float = 0.0,
    ) -> None:
        self.headers = headers


@given(headers=st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=4))
def test_dead_letter_restores_headers(headers: RawHeaders) -> None:
    record: Record = ConsumerRecord("t", 1, 2, 0, 0, b"k", b"v", None, 1, 1, tuple(headers))
    sender = Sender()
    asyncio.run(publish(sender, record))
    assert all(name.encode() for name, _ in sender.headers), "aiokafka writes names as UTF-8"
    letter: Record = ConsumerRecord("d", 0, 9, 0, 0, b"k", b"v", None, 1, 1, tuple(sender.headers))
    assert parse_letter(letter).headers == headers


def test_dead_letter_omits_reply_stream_secret() -> None:
    headers: RawHeaders = [(REPLY_STREAM, b"127.0.0.1:1 secret"), ("infaas-id", b"1")]
    record: Record = ConsumerRecord("t", 1, 2, 0, 0, b"k", b"v", None, 1, 1, tuple(headers))
    sender = Sender()
    asyncio.run(publish(sender, record))
    assert not any(b"secret" in value for _, value in sender.headers)
    assert ("infaas-id", b"1") in sender.headers


async def publish(sender: Sender, record: Record) -> None:
    await publish_dead_letter(sender, record, "reason")
