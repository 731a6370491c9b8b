"""Tests of reply streams with hostile or vanished peers on raw sockets, and of TLS on streams."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from broker.kafka.settings import KafkaSettings, ReplyStreamSettings
from broker.replies import receiver as receiver_module
from broker.replies import sender_connection
from broker.replies.address import StreamAddress, new_receiver_tls, parse_address
from broker.replies.protocol import (
    CHALLENGE_BYTES,
    HELLO_BYTES,
    KEEPALIVE,
    PROOF_BYTES,
    challenge,
    encode_frame,
    new_hello,
    sender_proof,
)
from broker.replies.receiver import MAX_STRANGERS, ReplyStreamReceiver
from tests.integration.broker.test_reply_stream import Inbox, not_streamed, result, until_connected, working
from tests.load import Pace
from tests.processes import service
from tests.waiting import PATIENCE_S, until

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
MANY = 1024
TLS = ReplyStreamSettings(tls=True)


@pytest.fixture
async def inbox(kafka: KafkaSettings) -> AsyncGenerator[Inbox]:
    async with Inbox().open(kafka) as opened:
        yield opened


def address_of(inbox: Inbox) -> StreamAddress:
    address = parse_address(inbox.stream)
    assert address is not None
    return address


async def knock(address: StreamAddress) -> Peer:
    return await asyncio.open_connection(address.host, address.port)


async def authenticate(address: StreamAddress) -> Peer:
    """Connect as a peer that knows the token, like every reader of queries."""
    reader, writer = await knock(address)
    hello = new_hello()
    writer.write(hello)
    answer = await reader.readexactly(CHALLENGE_BYTES)
    writer.write(sender_proof(address.token, hello, answer))
    await writer.drain()
    return reader, writer


def hang_up(peers: list[Peer]) -> None:
    for _, writer in peers:
        writer.transport.abort()


@asynccontextmanager
async def besieged(inbox: Inbox) -> AsyncGenerator[None]:
    """Fill the places for strangers with peers that never finish their handshake."""
    address = address_of(inbox)
    async with service("tests.integration.broker.slow_peers", address.host, str(address.port), "200", env={}):
        await until(lambda: len(inbox.receiver.places.strangers) == MAX_STRANGERS)
        yield


async def test_receiver_admits_worker_despite_silent_senders(kafka: KafkaSettings, inbox: Inbox) -> None:
    address, peers = address_of(inbox), list[Peer]()
    try:
        for _ in range(MANY):
            peers.append(await authenticate(address))
        async with working(kafka) as site:
            await until_connected(site, inbox.topic, inbox.stream)
    finally:
        hang_up(peers)


@pytest.mark.parametrize("settings", [ReplyStreamSettings(), TLS])
async def test_receiver_admits_worker_despite_slow_handshakes(
    kafka: KafkaSettings, settings: ReplyStreamSettings
) -> None:
    async with Inbox(settings).open(kafka) as inbox, besieged(inbox), working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)


async def test_receiver_admits_worker_while_event_loop_is_busy(kafka: KafkaSettings, inbox: Inbox) -> None:
    """Each pass of the event loop takes 50 ms: a worker that waits behind 200 others has some 40 passes."""

    def keep_busy() -> None:
        time.sleep(0.05)
        passes.append(loop.call_later(0, keep_busy))

    loop, passes = asyncio.get_running_loop(), deque[asyncio.TimerHandle](maxlen=1)
    async with besieged(inbox), working(kafka) as site:
        keep_busy()
        try:
            await until_connected(site, inbox.topic, inbox.stream)
        finally:
            passes[0].cancel()


async def test_receiver_frees_place_of_vanished_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's machine has lost power, so nothing closes the connection."""
    monkeypatch.setattr(receiver_module, "SILENT_S", 1.0)
    async with ReplyStreamReceiver(ReplyStreamSettings(), lambda _headers, _value: None) as receiver:
        address = parse_address(receiver.header.decode())
        assert address is not None
        gone, there = await authenticate(address), await authenticate(address)
        await until(lambda: len(receiver.places.senders) == 2)

        async def keep() -> None:
            async for _ in Pace(10):
                there[1].write(KEEPALIVE)
                await there[0].readexactly(8)

        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(keep())
            with suppress(ConnectionResetError):
                assert await gone[0].read() == b""
            assert len(receiver.places.senders) == 1
            keeping.cancel()
        hang_up([gone, there])


@asynccontextmanager
async def receiver_that_dies() -> AsyncGenerator[tuple[StreamAddress, asyncio.Event]]:
    """Receiver that accepts a connection and then stays silent; the event is set when the sender closes it."""
    ended, token = asyncio.Event(), "0123456789abcdef"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.readexactly(HELLO_BYTES)
        writer.write(challenge(token, hello))
        await reader.readexactly(PROOF_BYTES)
        with suppress(ConnectionResetError):
            await reader.read()
        ended.set()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield StreamAddress("127.0.0.1", server.sockets[0].getsockname()[1], token), ended


@pytest.mark.parametrize(("limit", "value"), [("KEEPALIVE_S", 0.2), ("UNUSED_S", -1.0)])
async def test_sender_closes_connection_to_vanished_receiver(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(sender_connection, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(sender_connection, limit, value)
    async with receiver_that_dies() as (address, ended), working(kafka) as site, asyncio.timeout(PATIENCE_S):
        await site.answer(result(inbox.topic, "1", address.header()))  # sent to the topic; a connection starts
        await ended.wait()
        await site.all_done()


async def test_sender_keeps_idle_connection_alive(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_connection, "KEEPALIVE_S", 0.1)
    monkeypatch.setattr(receiver_module, "SILENT_S", PATIENCE_S)
    async with working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)
        (connection,) = inbox.receiver.places.senders
        used_s, heard_s = connection.used_s, connection.heard_s
        await until(lambda: connection.heard_s > heard_s + 0.5)
        assert connection.used_s == used_s
        await site.answer(result(inbox.topic, "again", inbox.stream))
        await site.all_done()
        assert list(inbox.receiver.places.senders) == [connection]
        assert inbox.by_stream[-1] == b"again"


# -- TLS ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening_in(address: StreamAddress) -> AsyncGenerator[tuple[StreamAddress, bytearray]]:
    """Proxy before a receiver that records all bytes."""
    heard = bytearray()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                heard.extend(data)
                writer.write(data)
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await knock(address)
        await asyncio.gather(copy(reader, there), copy(there_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield address._replace(port=server.sockets[0].getsockname()[1]), heard


@pytest.mark.parametrize("encrypted", [False, True])
async def test_results_are_encrypted_if_receiver_requires_tls(kafka: KafkaSettings, encrypted: bool) -> None:
    async with (
        Inbox(ReplyStreamSettings(tls=encrypted)).open(kafka) as inbox,
        listening_in(address_of(inbox)) as (address, heard),
        working(kafka) as site,
    ):
        await until_connected(site, inbox.topic, address.header())
        for number in range(100):
            await site.answer(result(inbox.topic, number, address.header(), b"a secret answer"))
        await site.all_done()
        assert inbox.by_stream[-100:] == [b"%d" % number for number in range(100)]
        assert (b"a secret answer" in heard) is not encrypted


def test_encryption_works_on_uvloop(kafka: KafkaSettings) -> None:
    async def run() -> None:
        await test_results_are_encrypted_if_receiver_requires_tls(kafka, True)
        await test_receiver_admits_worker_despite_slow_handshakes(kafka, TLS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_sender_sends_nothing_to_wrong_certificate(kafka: KafkaSettings, inbox: Inbox) -> None:
    heard = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            heard.append(await reader.read())
        writer.transport.abort()

    own, other = new_receiver_tls(), new_receiver_tls()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=other.context)
    async with server, working(kafka) as site:
        port, avoided = server.sockets[0].getsockname()[1], not_streamed("avoided")
        stream = StreamAddress("127.0.0.1", port, "0123456789abcdef", own.fingerprint).header()
        async with asyncio.timeout(PATIENCE_S):
            while not_streamed("avoided") == avoided:
                await site.answer(result(inbox.topic, "1", stream))
                await site.all_done()
    assert b"".join(heard) == b""
    await inbox.until_topic_has({b"1"})


async def test_receiver_with_tls_refuses_plain_connection(kafka: KafkaSettings) -> None:
    async with Inbox(TLS).open(kafka) as inbox, asyncio.timeout(PATIENCE_S):
        address = address_of(inbox)
        reader, writer = await knock(address)
        writer.write(new_hello() + bytes(PROOF_BYTES) + encode_frame([("infaas-id", b"1")], b"forged"))
        with suppress(ConnectionResetError):
            assert len(await reader.read()) < CHALLENGE_BYTES, "an alert of TLS at most"
        writer.transport.abort()
        assert not inbox.by_stream
        await until(lambda: not inbox.receiver.places.strangers)


async def test_sender_with_tls_refuses_unencrypted_receiver(kafka: KafkaSettings, inbox: Inbox) -> None:
    settings = ReplyStreamSettings(tls=True)
    before = not_streamed("not encrypted")
    async with working(kafka, settings) as site:
        await site.answer(result(inbox.topic, "1", inbox.stream))
        await site.all_done()
    assert not_streamed("not encrypted") == before + 1
    await inbox.until_topic_has({b"1"})
