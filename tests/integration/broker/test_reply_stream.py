"""Tests of reply streams: each result arrives, by stream or topic, even if a receiver fails, and its record is done."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from uuid import uuid4

import msgspec
import pytest
import uvloop
from prometheus_client import REGISTRY

from broker.delivery.outbox import Message, Outbox
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings, ReplyStreamSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import Record
from broker.producing.producer import Producer
from broker.replies import receiver as receiver_module
from broker.replies import sender as sender_module
from broker.replies.address import StreamAddress, parse_address
from broker.replies.protocol import HELLO_BYTES, MAX_FRAME_BYTES, PROOF_BYTES, challenge, new_hello, new_token
from broker.replies.receiver import ReplyStreamReceiver
from broker.replies.request_reply import RequestReply
from broker.replies.sender import ReplyStreamSender
from process.backoff import Backoff, KeyedBackoff
from schemas.errors import OperatorError
from schemas.headers import CORRELATION, COST, EXPLANATION, ID, REPLY_STREAM, STATUS, TRACEPARENT, RawHeaders
from schemas.result import OK, Result
from tests.waiting import PATIENCE_S, until


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def streamed() -> float:
    return count("infaas_results_streamed_total")


def not_streamed(reason: str) -> float:
    return count("infaas_results_not_streamed_total", reason=reason)


class Site:
    """Result side of a worker: an outbox, its reply streams, and the finished records."""

    def __init__(self, producer: Producer, streams: ReplyStreamSender) -> None:
        self.streams = streams
        self.outbox = Outbox(producer, self._on_done, lambda _record, _error: None, streams=streams)
        self.done: list[int] = []
        self._news = asyncio.Event()
        self._offset = 0

    def _on_done(self, record: Record, _sent: Message | None) -> None:
        assert record.offset not in self.done
        self.done.append(record.offset)
        self._news.set()

    async def answer(self, message: Message) -> None:
        """Send the result of the next record."""
        record = Record("infaas.variants.v", 0, self._offset, 0, 0, b"k", b"v", ())
        self._offset += 1
        await self.outbox.send(record, message)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until the condition holds, which is checked after each finished record."""
        async with asyncio.timeout(30):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def all_done(self) -> None:
        """Wait until the records of all sent results are done."""
        await self.until(lambda: len(self.done) == self._offset)


@asynccontextmanager
async def working(kafka: KafkaSettings, settings: ReplyStreamSettings | None = None) -> AsyncGenerator[Site]:
    async with (
        Producer(kafka, f"worker-{uuid4()}") as producer,
        ReplyStreamSender(settings or ReplyStreamSettings()) as streams,
        asyncio.TaskGroup() as tasks,
    ):
        site = Site(producer, streams)
        retrying = tasks.create_task(site.outbox.retry_failed())
        yield site
        retrying.cancel()


def result(topic: str, number: int | str, stream: str, value: bytes = b"answer") -> Message:
    headers: RawHeaders = [(ID, b"%d" % number if isinstance(number, int) else number.encode()), (STATUS, OK.encode())]
    return Message(topic, value, headers, b"k", status=OK, stream=stream)


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all receivers stop accepting results."""
    monkeypatch.setattr(receiver_module.ReceiverConnection, "_take_results", _take_nothing)


def _take_nothing(_connection: receiver_module.ReceiverConnection) -> None:
    """Simulate a receiver that reads results from its socket, but dies before it accepts them."""


async def until_connected(site: Site, topic: str, stream: str) -> None:
    """Send results until one uses the stream."""
    before = streamed()
    async with asyncio.timeout(30):
        while streamed() == before:
            await site.answer(result(topic, "first", stream))
            await site.all_done()


class Inbox:
    """Results that reached one receiver, by the stream and by the topic."""

    def __init__(self, settings: ReplyStreamSettings | None = None) -> None:
        self._settings = settings or ReplyStreamSettings()
        self.by_stream: list[bytes] = []
        self.by_topic: list[bytes] = []
        self.last: tuple[RawHeaders, bytes] = ([], b"")
        """Last result from the stream."""
        self.topic = f"replies-{uuid4()}"
        self.stream = ""
        self.receiver: ReplyStreamReceiver

    def _on_result(self, headers: RawHeaders, value: bytes) -> None:
        self.by_stream.append(dict(headers)[ID])
        self.last = headers, value

    @asynccontextmanager
    async def open(self, kafka: KafkaSettings) -> AsyncGenerator["Inbox"]:
        await ensure_topics(kafka, [TopicSpec(self.topic)])
        async with AsyncExitStack() as stack:
            self._tail = await stack.enter_async_context(Tail(kafka, self.topic, [self.topic]))
            self.receiver = await stack.enter_async_context(ReplyStreamReceiver(self._settings, self._on_result))
            self.stream = self.receiver.header.decode()
            yield self

    async def until_topic_has(self, wanted: set[bytes]) -> None:
        """Read the topic until it has delivered these ids."""
        async with asyncio.timeout(30):
            while not wanted <= set(self.by_topic):
                self.by_topic += [dict(record.headers)[ID] or b"" for record in await self._tail.poll()]


@pytest.fixture
async def inbox(kafka: KafkaSettings) -> AsyncGenerator[Inbox]:
    async with Inbox().open(kafka) as opened:
        yield opened


async def test_results_use_topic_until_stream_is_connected(kafka: KafkaSettings, inbox: Inbox) -> None:
    async with working(kafka) as site:
        await site.answer(result(inbox.topic, "before", inbox.stream))
        await inbox.until_topic_has({b"before"})
        await until_connected(site, inbox.topic, inbox.stream)
        already = len(inbox.by_stream)
        for number in range(1000):
            await site.answer(result(inbox.topic, number, inbox.stream))
        await site.all_done()
    assert inbox.by_stream[already:] == [b"%d" % number for number in range(1000)]


async def test_result_is_identical_by_stream_and_topic(kafka: KafkaSettings, inbox: Inbox) -> None:
    headers = [(ID, b"1"), (STATUS, b"ok"), (EXPLANATION, b'{"\xc3\xa4": 1}'), (TRACEPARENT, b"00-trace"), (COST, b"")]
    message = Message(inbox.topic, b"\x00\xff", headers, b"k", status=OK, stream=inbox.stream)
    async with Tail(kafka, "compare", [inbox.topic]) as topic, working(kafka) as site:
        await site.answer(msgspec.structs.replace(message, stream=""))
        (record,) = await topic.poll()
        await until_connected(site, inbox.topic, inbox.stream)
        await site.answer(message)
        await site.all_done()
    assert inbox.last == (headers, b"\x00\xff") == (list(record.headers), record.value)


async def test_result_above_frame_limit_uses_topic(kafka: KafkaSettings, inbox: Inbox) -> None:
    async with working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        await site.answer(result(inbox.topic, "large", inbox.stream, bytes(MAX_FRAME_BYTES - 1000)))
        await site.all_done()
        assert inbox.by_stream[-1] == b"large"
        await site.answer(result(inbox.topic, "too large", inbox.stream, bytes(MAX_FRAME_BYTES)))
        await site.all_done()
        await inbox.until_topic_has({b"too large"})
    assert inbox.by_stream[-1] == b"large"


async def test_unacknowledged_results_of_dead_receiver_use_topic(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        stand_still(monkeypatch)
        done = len(site.done)
        for number in range(100):
            await site.answer(result(inbox.topic, number, inbox.stream))
        (connection,) = inbox.receiver.places.senders
        assert len(site.done) == done
        connection.abort()
        await site.all_done()
        await inbox.until_topic_has({b"%d" % number for number in range(100)})


async def test_stalled_receiver_delays_only_its_own_results(kafka: KafkaSettings, inbox: Inbox) -> None:
    async with Inbox().open(kafka) as other, working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        await until_connected(site, other.topic, other.stream)
        with pytest.MonkeyPatch.context() as patch:
            pauses = Backoff(PATIENCE_S, PATIENCE_S)  # it is avoided for longer than we look
            patch.setattr(site.streams, "_backoff", KeyedBackoff(pauses, 10))
            slow, (connection,) = not_streamed("slow"), inbox.receiver.places.senders
            connection._transport.pause_reading()  # pyright: ignore[reportPrivateUsage] - simulates a suspended process
            stuck = [len(site.done) + number for number in range(50)]
            for number in range(50):
                await site.answer(result(inbox.topic, number, inbox.stream))
            already = len(other.by_stream)
            for number in range(50):
                await site.answer(result(other.topic, number, other.stream))
            await site.until(lambda: len(site.done) >= stuck[0] + 50)
            assert other.by_stream[already:] == [b"%d" % number for number in range(50)]
            assert not set(stuck) & set(site.done), "done though the receiver does not have it"
            await site.all_done()
            await inbox.until_topic_has({b"%d" % number for number in range(50)})
            assert not_streamed("slow") == slow + 50
            avoided = not_streamed("avoided")
            await site.answer(result(inbox.topic, "avoided", inbox.stream))
            await inbox.until_topic_has({b"avoided"})
            assert not_streamed("avoided") == avoided + 1


async def test_results_of_full_receiver_use_topic_at_once(kafka: KafkaSettings, inbox: Inbox) -> None:
    async with working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        (connection,) = inbox.receiver.places.senders
        connection._transport.pause_reading()  # pyright: ignore[reportPrivateUsage] - simulates a suspended process
        busy = not_streamed("busy")
        for number in range(10):
            await site.answer(result(inbox.topic, number, inbox.stream, bytes(MAX_FRAME_BYTES // 4)))
        assert not_streamed("busy") > busy
        await site.all_done()
        await inbox.until_topic_has({b"%d" % number for number in range(10)})


@pytest.mark.parametrize(
    "scenario",
    [
        test_results_use_topic_until_stream_is_connected,
        test_stalled_receiver_delays_only_its_own_results,
        test_results_of_full_receiver_use_topic_at_once,
    ],
)
def test_reply_stream_works_on_uvloop(
    kafka: KafkaSettings, scenario: Callable[[KafkaSettings, Inbox], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with Inbox().open(kafka) as inbox:
            await scenario(kafka, inbox)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@asynccontextmanager
async def impostor(token: str, answers: bool) -> AsyncGenerator[tuple[StreamAddress, list[bytes]]]:
    """Listener at the address of a query's stream, which answers with a wrong token, or not at all."""
    heard: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.readexactly(HELLO_BYTES)
        heard.append(hello)
        if answers:
            writer.write(challenge("some other token!", hello))
            heard.append(await reader.read())
        else:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield StreamAddress("127.0.0.1", server.sockets[0].getsockname()[1], token), heard
        over.set()


async def test_sender_gives_impostor_no_proof_and_no_result(kafka: KafkaSettings, inbox: Inbox) -> None:
    async with impostor(new_token(), answers=True) as (address, heard), working(kafka) as site:
        avoided = not_streamed("avoided")
        async with asyncio.timeout(30):
            while not_streamed("avoided") == avoided:
                await site.answer(result(inbox.topic, "1", address.header()))
                await site.all_done()
        assert heard[1:] == [b""], "no proof and no result"
    await inbox.until_topic_has({b"1"})


async def test_sender_times_out_silent_listener(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "CONNECT_S", 0.2)
    async with impostor(new_token(), answers=False) as (address, heard), working(kafka) as site:
        avoided = not_streamed("avoided")
        async with asyncio.timeout(30):
            while not_streamed("avoided") == avoided:
                await site.answer(result(inbox.topic, "1", address.header()))
                await site.all_done()
        assert len(heard) == 1
    await inbox.until_topic_has({b"1"})


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ("10.255.255.1:80 0123456789abcdef", "not allowed"),
        ("169.254.169.254:80 0123456789abcdef", "not allowed"),
        ("localhost:80 0123456789abcdef", "malformed"),
        ("127.0.0.1:1 0123456789abcdef", "avoided"),
    ],
)
async def test_results_for_unusable_address_use_topic(
    kafka: KafkaSettings, inbox: Inbox, stream: str, reason: str
) -> None:
    before = not_streamed(reason)
    async with working(kafka) as site, asyncio.timeout(30):
        while not_streamed(reason) == before:
            await site.answer(result(inbox.topic, "1", stream))
            await site.all_done()
    await inbox.until_topic_has({b"1"})


async def test_sender_bounds_connections(kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(sender_module, "BACKOFF", Backoff(0.0, 0.0))
    async with Inbox().open(kafka) as other, working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        before = not_streamed("too many")
        await site.answer(result(other.topic, "1", other.stream))
        await other.until_topic_has({b"1"})
        assert not_streamed("too many") == before + 1
        monkeypatch.setattr(sender_module, "UNUSED_S", 0.0)  # the next attempt closes one, the second connects
        await until_connected(site, other.topic, other.stream)
        assert not inbox.receiver.places.senders


async def test_reply_stream_can_be_disabled_at_either_end(kafka: KafkaSettings, inbox: Inbox) -> None:
    off = ReplyStreamSettings(enabled=False)
    async with working(kafka, off) as site:
        for number in range(3):
            await site.answer(result(inbox.topic, number, inbox.stream))
            await site.all_done()
    await inbox.until_topic_has({b"0", b"1", b"2"})
    assert not inbox.by_stream
    async with RequestReply(kafka.model_copy(update={"reply_stream": off}), str(uuid4())) as requests:
        assert await query_headers(requests, kafka) == {ID, CORRELATION}


async def query_headers(requests: RequestReply, kafka: KafkaSettings) -> set[str]:
    """Return the names of the headers of a sent query."""
    topic = f"asked-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic)])
    async with Tail(kafka, topic, [topic]) as asked:
        with pytest.raises(TimeoutError):
            await requests.ask("1", topic, b"?", [(ID, b"1")], timeout_s=1.0)
        (record,) = await asked.poll()
        return {name for name, _ in record.headers}


async def test_sender_exit_leaves_unacknowledged_records_open(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        stand_still(monkeypatch)
        done = list(site.done)
        await site.answer(result(inbox.topic, "1", inbox.stream))
    assert site.done == done, "its record would be committed"


# -- the receiver's side -----------------------------------------------------------------------------------------------


async def test_receiver_closes_silent_unauthenticated_connection(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "HANDSHAKE_S", 0.1)
    address = parse_address(inbox.stream)
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("proof", [bytes(PROOF_BYTES), b"GET / HTTP/1.1\r\n\r\n".ljust(PROOF_BYTES)])
async def test_receiver_ignores_unauthenticated_results(inbox: Inbox, proof: bytes) -> None:
    address = parse_address(inbox.stream)
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(new_hello() + proof + b"\x0d\x00\x00\x00")
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            await reader.read()
    writer.close()
    assert not inbox.by_stream
    assert not inbox.receiver.places.senders


async def test_receiver_bounds_unauthenticated_connections(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "MAX_STRANGERS", 2)
    monkeypatch.setattr(receiver_module, "HANDSHAKE_S", 2 * PATIENCE_S)  # so that only the bound closes a connection
    address = parse_address(inbox.stream)
    assert address is not None
    opened = [await asyncio.open_connection(address.host, address.port) for _ in range(3)]
    ended = [asyncio.create_task(_ended(reader)) for reader, _ in opened]
    done, _ = await asyncio.wait(ended, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert done == {ended[0]}, "the oldest makes room for the third"
    await until(lambda: len(inbox.receiver.places.strangers) == 2)
    for _, writer in opened:
        writer.close()
    await asyncio.wait(ended)


async def _ended(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):
        await reader.read()


async def test_receiver_names_setting_if_port_is_taken(inbox: Inbox) -> None:
    address = parse_address(inbox.stream)
    assert address is not None
    with pytest.raises(OperatorError, match="choose another INFAAS_REPLY_STREAM_PORT"):
        async with ReplyStreamReceiver(ReplyStreamSettings(port=address.port), lambda _headers, _value: None):
            pass


# -- request and reply -------------------------------------------------------------------------------------------------


async def test_request_reply_answers_once_despite_duplicates(kafka: KafkaSettings) -> None:
    duplicates = count("infaas_replies_dropped_total", reason="duplicate")
    topic = f"asked-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic)])
    async with (
        Tail(kafka, topic, [topic]) as asked,
        working(kafka) as site,
        RequestReply(kafka, str(uuid4())) as requests,
        asyncio.timeout(60),
    ):

        async def serve(streams_only: bool) -> None:
            for record in await asked.poll():
                fields = dict(record.headers)
                headers = [(name, fields[name] or b"") for name in (ID, CORRELATION)] + [(STATUS, OK.encode())]
                stream = (fields[REPLY_STREAM] or b"").decode()
                message = Message(requests.reply_topic, b"by stream", headers, b"k", status=OK, stream=stream)
                await site.answer(message)
                if not streams_only:
                    await site.answer(Message(requests.reply_topic, b"by topic", headers, b"k", status=OK))

        async def ask(query_id: str, streams_only: bool = True) -> Result:
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(requests.ask(query_id, topic, b"?", [(ID, query_id.encode())]))
                await serve(streams_only)
            return waiting.result()

        before = streamed()
        while streamed() == before:
            await ask("first")
        answers = [await ask(str(number), streams_only=False) for number in range(5)]
        assert {answer.id for answer in answers} == {str(number) for number in range(5)}
        await site.all_done()
        await ask("last", streams_only=False)  # so the duplicates before it are read
        await until(lambda: count("infaas_replies_dropped_total", reason="duplicate") >= duplicates + 5)


async def test_receiver_exit_does_not_block_sender(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver closes before it accepts results: they go to its topic, and nothing blocks."""
    numbers = {b"%d" % number for number in range(100)}
    async with working(kafka) as site:
        async with Inbox().open(kafka) as inbox:
            await until_connected(site, inbox.topic, inbox.stream)
            stand_still(monkeypatch)
            done = len(site.done)
            for number in range(100):
                await site.answer(result(inbox.topic, number, inbox.stream))
            assert len(site.done) == done, "the receiver has accepted none"
        await site.all_done()
    async with Tail(kafka, "after", [inbox.topic], since_ms=0.0) as tail:
        assert numbers <= {dict(record.headers)[ID] async for record in tail.past()}
    assert numbers.isdisjoint(inbox.by_stream)
