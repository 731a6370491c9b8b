"""Peers that harm a reply stream's receiver or sender, by raw sockets; a good worker delivers all the same."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from broker.reply_stream import places, sender_connection
from broker.reply_stream import receiver as receiver_module
from broker.reply_stream.address import StreamAddress, parse_address
from broker.reply_stream.encryption import new_receiver_tls
from broker.reply_stream.frames import KEEPALIVE, encode_frame
from broker.reply_stream.handshake import CHALLENGE_BYTES, HELLO_BYTES, PROOF_BYTES, challenge, new_hello, sender_proof
from broker.reply_stream.receiver import ReplyStreamReceiver
from broker.reply_stream.settings import ReplyStreamSettings
from broker.settings import KafkaSettings
from tests.integration.broker.test_reply_stream import Inbox, not_streamed, result, until_connected, working
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
    """A peer that knows the token, as whoever may read queries does."""
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
async def dripping(address: StreamAddress, count: int) -> AsyncGenerator[None]:
    """Peers that never finish their handshake, and come again as soon as they are cut off."""

    async def drip() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await knock(address)
                ended = asyncio.ensure_future(reader.read())
                try:
                    for byte in new_hello()[:-1]:
                        writer.write(bytes([byte]))
                        await asyncio.wait({ended}, timeout=0.25)
                        if ended.done():
                            break
                finally:
                    ended.cancel()
                    writer.transport.abort()

    async with asyncio.TaskGroup() as tasks:
        dripped = [tasks.create_task(drip()) for _ in range(count)]
        try:
            yield
        finally:
            for one in dripped:
                one.cancel()


async def test_silent_senders_keep_no_worker_out(kafka: KafkaSettings, inbox: Inbox) -> None:
    address, peers = address_of(inbox), list[Peer]()
    try:
        for _ in range(MANY):
            peers.append(await authenticate(address))
        async with working(kafka) as site:
            await until_connected(site, inbox.topic, inbox.stream)
    finally:
        hang_up(peers)


@pytest.mark.parametrize("settings", [ReplyStreamSettings(), TLS])
async def test_slow_handshakes_keep_no_worker_out(kafka: KafkaSettings, settings: ReplyStreamSettings) -> None:
    async with Inbox(settings).open(kafka) as inbox, dripping(address_of(inbox), 200), working(kafka) as site:
        await until_connected(site, inbox.topic, inbox.stream)


async def test_sender_that_is_gone_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine has lost power, so that nothing ends the connection."""
    for module in (places, receiver_module):
        monkeypatch.setattr(module, "SILENT_S", 1.0)
    async with ReplyStreamReceiver(ReplyStreamSettings(), lambda _headers, _value: None) as receiver:
        address = parse_address(receiver.header.decode())
        assert address is not None
        gone, there = await authenticate(address), await authenticate(address)
        await until(lambda: len(receiver.places.senders) == 2)

        async def keep() -> None:
            while True:
                there[1].write(KEEPALIVE)
                await there[0].readexactly(8)
                await asyncio.sleep(0.1)

        keeping = asyncio.ensure_future(keep())
        with suppress(ConnectionResetError):
            assert await gone[0].read() == b""
        assert len(receiver.places.senders) == 1
        keeping.cancel()
        hang_up([gone, there])


@asynccontextmanager
async def receiver_that_dies() -> AsyncGenerator[tuple[StreamAddress, asyncio.Event]]:
    """Receiver that takes a connection, and is never heard again; the event is set when its sender ends that."""
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
async def test_receiver_that_is_gone_is_given_up(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(sender_connection, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(sender_connection, limit, value)
    async with receiver_that_dies() as (address, ended), working(kafka) as site, asyncio.timeout(PATIENCE_S):
        await site.answer(result(inbox.topic, "1", address.header()))  # by the topic, and a connection is made
        await ended.wait()
        await site.all_done()


async def test_worker_without_results_keeps_its_connection(
    kafka: KafkaSettings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_connection, "KEEPALIVE_S", 0.1)
    for module in (places, receiver_module):
        monkeypatch.setattr(module, "SILENT_S", PATIENCE_S)
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
    """A way to a receiver on which somebody reads along."""
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
async def test_results_are_encrypted_where_the_receiver_says(kafka: KafkaSettings, encrypted: bool) -> None:
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


def test_loop_of_the_services_encrypts_as_well(kafka: KafkaSettings) -> None:
    async def run() -> None:
        await test_results_are_encrypted_where_the_receiver_says(kafka, True)
        await test_slow_handshakes_keep_no_worker_out(kafka, TLS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_receiver_with_another_certificate_gets_nothing(kafka: KafkaSettings, inbox: Inbox) -> None:
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


async def test_nothing_is_taken_in_clear_where_tls_is_asked_for(kafka: KafkaSettings) -> None:
    async with Inbox(TLS).open(kafka) as inbox, asyncio.timeout(PATIENCE_S):
        address = address_of(inbox)
        reader, writer = await knock(address)
        writer.write(new_hello() + bytes(PROOF_BYTES) + encode_frame([("infaas-id", b"1")], b"forged"))
        with suppress(ConnectionResetError):
            assert len(await reader.read()) < CHALLENGE_BYTES, "an alert of TLS at most"
        writer.transport.abort()
        assert not inbox.by_stream
        await until(lambda: not inbox.receiver.places.strangers)


async def test_nothing_is_sent_in_clear_to_another_machine_beside_tls(kafka: KafkaSettings, inbox: Inbox) -> None:
    settings = ReplyStreamSettings(tls=True)
    before = not_streamed("not encrypted")
    async with working(kafka, settings) as site:
        await site.answer(result(inbox.topic, "1", inbox.stream))
        await site.all_done()
    assert not_streamed("not encrypted") == before + 1
    await inbox.until_topic_has({b"1"})
