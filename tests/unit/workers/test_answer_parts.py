"""Tests of the sender of the parts of one answer."""

from collections.abc import Callable
from typing import cast

import msgspec

from broker.kafka.types import Record
from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from schemas import headers as h
from schemas.generation import AnswerPart, TokenLogprob
from schemas.headers import RawHeaders
from workers.serving import answer_parts
from workers.serving.answer_parts import AnswerParts
from workers.serving.pending_query import PendingQuery

STREAM = "a stream"


class Streams:
    """Reply streams that are open or not."""

    def __init__(self) -> None:
        self.is_open = False
        self.asked = 0
        self.waits = True
        """True if the receiver has a caller that waits."""
        self.sent: list[tuple[str, AnswerPart]] = []

    def can_send_part(self, stream: str) -> bool:
        assert stream == STREAM
        self.asked += 1
        return self.is_open

    def send_part(self, stream: str, headers: RawHeaders, value: bytes, on_unwanted: Callable[[], None]) -> bool:
        self.sent.append(read(headers, value))
        if not self.waits:
            on_unwanted()
        return True


class Topic:
    """Producer that keeps what is posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, AnswerPart]] = []

    async def post(
        self, topic: str, value: bytes, on_ack: Callable[[object], None], *, key: bytes, headers: RawHeaders
    ) -> None:
        self.posted.append(read(headers, value))


def read(headers: RawHeaders, value: bytes) -> tuple[str, AnswerPart]:
    return (dict(headers)[h.PART] or b"").decode(), msgspec.json.decode(value, type=AnswerPart)


class Clock:
    def __init__(self) -> None:
        self.now_s = 10.0


def ignore() -> None:
    """Ignore that nobody waits."""


def parts_of(
    streams: Streams, topic: Topic, clock: Clock, stream: str = STREAM, on_unwanted: Callable[[], None] = ignore
) -> AnswerParts:
    query = PendingQuery(cast(Record, None), {}, "1", "task")
    query.reply_stream = stream
    sender, producer = cast(ReplyStreamSender, streams), cast(Producer, topic)
    return AnswerParts(query, sender, producer, on_unwanted, clock=lambda: clock.now_s)


def word(text: str = "x", tokens: int = 1) -> AnswerPart:
    return AnswerPart(text=text, tokens=tokens, logprobs=[TokenLogprob(token=text, logprob=-1.0)])


def numbers(sent: list[tuple[str, AnswerPart]]) -> list[int]:
    return [int(name.split()[1]) for name, _part in sent]


def test_parts_carry_tokens_without_text_in_next_part() -> None:
    streams = Streams()
    parts = parts_of(streams, Topic(), Clock())
    streams.is_open = True
    for part in (word("a"), word(""), word("bc"), word("")):
        parts.add(part)
    assert [(part.text, part.tokens, len(part.logprobs)) for _name, part in streams.sent] == [("a", 1, 1), ("bc", 2, 2)]
    parts.end()
    assert (streams.sent[-1][1].tokens, len(streams.sent[-1][1].logprobs)) == (1, 1)
    parts.end()
    assert numbers(streams.sent) == [0, 1, 2]


async def test_parts_show_progress_of_prompt_only_over_stream() -> None:
    streams, topic, clock = Streams(), Topic(), Clock()
    parts, progress = parts_of(streams, topic, clock), AnswerPart(text="", tokens=0)
    streams.is_open = True
    for part in (progress, progress, word("a")):
        parts.add(part)
    assert [(part.text, part.tokens) for _name, part in streams.sent] == [("", 0), ("", 0), ("a", 1)]
    assert numbers(streams.sent) == [0, 1, 2]
    without_stream = parts_of(streams, topic, clock, stream="")
    without_stream.add(progress)
    await without_stream.post()
    assert not topic.posted


def test_parts_are_not_encoded_without_connection() -> None:
    streams, encoded = Streams(), 0
    parts = parts_of(streams, Topic(), Clock())

    def count(value: object) -> bytes:
        nonlocal encoded
        encoded += 1
        return msgspec.json.encode(value)

    before, answer_parts._encode = answer_parts._encode, count  # pyright: ignore[reportPrivateUsage]
    try:
        for _ in range(3):
            parts.add(word())
        assert not encoded
        streams.is_open = True
        parts.add(word())
        assert encoded == 1
    finally:
        answer_parts._encode = before  # pyright: ignore[reportPrivateUsage]
    assert streams.sent[0][1].text == "xxxx"


async def test_parts_go_to_topic_if_stream_stays_closed() -> None:
    streams, topic, clock = Streams(), Topic(), Clock()
    parts = parts_of(streams, topic, clock)
    streams.is_open = True
    parts.add(word("a"))
    streams.is_open = False
    parts.add(word("b"))
    assert not parts.is_to_topic
    clock.now_s += answer_parts.PATIENCE_S
    parts.add(word("c"))
    assert parts.is_to_topic
    await parts.post()
    streams.is_open = True  # the order would be lost if later parts went over the stream
    parts.add(word("d"))
    await parts.post()
    assert [part.text for _name, part in topic.posted] == ["bc", "d"]
    assert ([part.text for _name, part in streams.sent], numbers(topic.posted)) == (["a", ""], [1, 2])


async def test_parts_to_topic_ask_late_stream_if_anybody_waits() -> None:
    streams, topic, clock, unwanted = Streams(), Topic(), Clock(), list[float]()
    parts = parts_of(streams, topic, clock, on_unwanted=lambda: unwanted.append(clock.now_s))
    parts.add(word("a"))
    clock.now_s += answer_parts.PATIENCE_S
    parts.add(word("b"))
    assert parts.is_to_topic
    streams.is_open = True
    for _ in range(3):
        parts.add(word("c"))
    assert [(part.text, part.tokens) for _name, part in streams.sent] == [("", 0)], "not with each token"
    assert numbers(streams.sent) == [-1], "it leaves no gap among the parts if it is lost"
    assert not unwanted
    streams.waits = False
    clock.now_s += answer_parts.PATIENCE_S
    parts.add(word("d"))
    assert unwanted == [clock.now_s]
    await parts.post()
    assert ([part.text for _name, part in topic.posted], numbers(topic.posted)) == (["abcccd"], [0])


async def test_parts_without_stream_ask_nobody() -> None:
    streams = Streams()
    streams.is_open = True
    parts = parts_of(streams, Topic(), Clock(), stream="")
    parts.add(word("a"))
    await parts.post()
    assert (streams.asked, streams.sent) == (0, [])


def test_parts_refused_at_end_are_left_to_result() -> None:
    streams, topic = Streams(), Topic()
    parts = parts_of(streams, topic, Clock())
    parts.add(word("a"))
    parts.end()
    assert not parts.is_to_topic
    assert not streams.sent
