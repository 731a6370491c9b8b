"""Tests of dead letters: they keep all headers except secrets, and are shortened beyond their topic's budget."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from broker.dead_letters.letter import BURST_BYTES, HEAD_BYTES, LetterBudget, parse_letter, publish_dead_letter
from broker.kafka.types import Record
from broker.producing.producer import OnAck, Producer
from schemas.headers import REPLY_STREAM, RawHeaders

_NONE: RawHeaders = []
NAMES = st.one_of(
    st.text(min_size=1, max_size=9).filter(lambda name: name.isprintable()),
    st.binary(min_size=1, max_size=9).map(lambda raw: raw.decode(errors="surrogateescape")),
    st.sampled_from(["infaas-dead-name-", "infaas-dead-name-6162", "infaas-dead-name-zz", "name\udcff"]),
)


class Sender(Producer):
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
    record = Record("t", 1, 2, 0, 0, b"k", b"v", tuple(headers))
    sender = Sender()
    asyncio.run(publish(sender, record))
    assert all(name.encode() for name, _ in sender.headers), "aiokafka writes names as UTF-8"
    letter = Record("d", 0, 9, 0, 0, b"k", b"v", tuple(sender.headers))
    assert parse_letter(letter).headers == headers


def test_dead_letter_omits_reply_stream_secret() -> None:
    headers: RawHeaders = [(REPLY_STREAM, b"127.0.0.1:1 secret"), ("infaas-id", b"1")]
    record = Record("t", 1, 2, 0, 0, b"k", b"v", tuple(headers))
    sender = Sender()
    asyncio.run(publish(sender, record))
    assert not any(b"secret" in value for _, value in sender.headers)
    assert ("infaas-id", b"1") in sender.headers


async def publish(sender: Sender, record: Record) -> None:
    await publish_dead_letter(sender, record, "reason")


@given(st.lists(st.tuples(st.integers(1, BURST_BYTES), st.floats(0, 1000)), max_size=50))
def test_letter_budget_bounds_the_bytes_kept_whole(letters: list[tuple[int, float]]) -> None:
    budget, now_s, whole = LetterBudget(), 0.0, 0
    for size, pause_s in letters:
        now_s += pause_s
        if budget.keep_bytes("t", size, now_s) is None and size > HEAD_BYTES:
            whole += size
    assert whole <= BURST_BYTES * (1 + now_s / 3600) + 1


def test_letter_budget_keeps_small_letters_whole() -> None:
    budget = LetterBudget()
    assert budget.keep_bytes("t", BURST_BYTES, 0.0) is None
    assert budget.keep_bytes("t", HEAD_BYTES + 1, 0.0) == HEAD_BYTES
    assert budget.keep_bytes("t", HEAD_BYTES, 0.0) is None
    assert budget.keep_bytes("other", BURST_BYTES, 0.0) is None


def test_letter_budget_refunds_unwritten_letter() -> None:
    budget = LetterBudget()
    for _ in range(10):
        assert budget.keep_bytes("t", BURST_BYTES, 0.0) is None
        budget.give_back("t", BURST_BYTES)
