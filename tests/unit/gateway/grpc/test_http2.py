"""Tests of the server's side of HTTP/2: with the library h2 as its client, and with frames that violate it."""

import random
import struct
from collections import deque
from contextlib import suppress

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from gateway.grpc.http2 import PREFACE, Http2Code, Http2Error, Http2Server

REQUEST = {":method": "POST", ":scheme": "http", ":path": "/service/method", ":authority": "x", "te": "trailers"}
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
BLOCK = b"\x83\x86\x04\x02/x"  # POST, http, and a path as a literal


class Echo:
    """Server that sends each body back, as the windows permit; a stream is granted what it has read."""

    def __init__(self, most_streams: int = 100) -> None:
        self.http2 = Http2Server(self, most_streams, 16 * 1024)
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.reset: set[int] = set()
        self.answered = b""
        self._pending: dict[int, deque[memoryview]] = {}

    def on_request(self, stream: int, fields: dict[str, str], *, ended: bool) -> None:
        self.requests[stream], self.bodies[stream] = fields, b""
        if ended:
            self._answer(stream)

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        self.bodies[stream] += data
        self.http2.grant(stream, size)
        if ended:
            self._answer(stream)

    def on_reset(self, stream: int) -> None:
        self.reset.add(stream)
        self._pending.pop(stream, None)

    def on_ping_answered(self, payload: bytes) -> None:
        self.answered = payload

    def on_window(self, stream: int) -> None:
        for number in [stream] if stream else list(self._pending):
            if number in self._pending:
                self._send(number)

    def _answer(self, stream: int) -> None:
        self.http2.send_headers(stream, [(b":status", b"200"), (b"x-long", b"v" * 300)], last=False)
        self._pending[stream] = deque([memoryview(self.bodies[stream])] if self.bodies[stream] else [])
        self._send(stream)

    def _send(self, stream: int) -> None:
        pending = self._pending[stream]
        while pending:
            data = pending.popleft()
            size = self.http2.send_data(stream, data)
            if size < len(data):
                pending.appendleft(data[size:])
            if not size:
                return
        del self._pending[stream]
        self.http2.send_headers(stream, [(b"grpc-status", b"0")], last=True)


class Silent(Echo):
    """Server that neither answers nor grants anything."""

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        self.bodies[stream] += data


class Client:
    """Client by h2, whose bytes reach the server in pieces."""

    def __init__(self, server: Echo, seed: int, window: int = 65_535) -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events: list[Event] = []
        self.answers: dict[int, bytes] = {}
        self._pending: dict[int, bytes] = {}
        self._draw = random.Random(seed)

    def ask(self, body: bytes, **fields: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, list((REQUEST | fields).items()), end_stream=not body)
        if body:
            self._pending[stream] = body
        return stream

    def reset(self, stream: int) -> None:
        self.h2.reset_stream(stream)
        del self._pending[stream]

    def exchange(self) -> None:
        """Exchange bytes until neither side has any."""
        while True:
            self._send()
            sent, received = self.h2.data_to_send(), self.server.http2.take()
            if not sent and not received:
                return
            for piece in self._pieces(sent):
                self.server.http2.receive(piece)
            for event in self.h2.receive_data(received):
                self._on_event(event)

    def _send(self) -> None:
        for stream, body in list(self._pending.items()):
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if size:
                last = size == len(body)
                padding = self._draw.choice([None, None, 0, 7]) if 16 < size < len(body) - 8 else None
                size = size - 8 if padding is not None else size
                self.h2.send_data(stream, body[:size], end_stream=last, pad_length=padding)
                self._pending[stream] = body[size:]
                if last:
                    del self._pending[stream]

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, DataReceived):
            assert event.stream_id is not None
            self.answers[event.stream_id] = self.answers.get(event.stream_id, b"") + (event.data or b"")
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)

    def _pieces(self, data: bytes) -> list[bytes]:
        cuts = sorted(self._draw.randrange(len(data) + 1) for _ in range(self._draw.randrange(4)))
        return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=5),
    st.integers(0, 1000),
    st.sampled_from([1_000, 65_535, 300_000]),
)
def test_http2_echoes_bodies_of_any_size(sizes: list[int], seed: int, window: int) -> None:
    client = Client(Echo(), seed, window)
    bodies = {client.ask(random.Random(size).randbytes(size), number=str(size)): size for size in sizes}
    client.exchange()
    for stream, size in bodies.items():
        assert client.answers.get(stream, b"") == random.Random(size).randbytes(size)
        assert client.server.requests[stream]["number"] == str(size)
    ended = {event.stream_id for event in client.events if isinstance(event, StreamEnded)}
    assert ended == bodies.keys()


def test_http2_initial_window_applies_to_open_streams() -> None:
    """A smaller initial window may be below what was sent: nothing more is sent until the window is positive again."""
    server = Echo()
    http2 = server.http2
    begin = begun() + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10)) + frame(HEADERS, 0x4, 1, BLOCK)
    http2.receive(begin + frame(DATA, 0x1, 1, b"z" * 100))

    def sent() -> int:
        return http2.take().count(b"z")

    def window(setting: int) -> bytes:
        return frame(SETTINGS, 0, 0, struct.pack(">HI", 4, setting))

    assert sent() == 10
    http2.receive(window(4) + window(12))
    assert sent() == 2
    http2.receive(window(5) + frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 10)))
    assert sent() == 3
    http2.receive(window(65_535))
    assert sent() == 85


def test_http2_connection_outlives_more_data_than_its_window() -> None:
    client = Client(Echo(), 1)
    for _ in range(30):
        stream = client.ask(bytes(1_000_000))
        client.exchange()
        assert len(client.answers.pop(stream)) == 1_000_000


def test_http2_large_header_blocks_pass_in_pieces() -> None:
    client = Client(Echo(), 2)
    stream = client.ask(b"x", **{f"x-{number}": "v" * 300 for number in range(40)})
    client.exchange()
    assert client.server.requests[stream]["x-39"] == "v" * 300
    server = Echo()
    server.http2.receive(begun() + frame(HEADERS, 0x4 | 0x1, 1, BLOCK))
    server.http2.send_headers(1, [(b"x", b"v" * 40_000)], last=True)
    assert server.http2.take()


def test_http2_refuses_streams_beyond_limit() -> None:
    server = Echo(most_streams=1)
    server.http2.receive(begun() + frame(HEADERS, 0x4, 1, BLOCK) + frame(HEADERS, 0x4, 3, BLOCK))
    assert list(server.requests) == [1]
    assert frame(RST_STREAM, 0, 3, struct.pack(">I", Http2Code.REFUSED_STREAM)) in server.http2.take()


def test_http2_client_reset_is_reported_once() -> None:
    client = Client(Echo(), 4)
    stream = client.ask(bytes(100_000))
    client.reset(stream)
    client.exchange()
    assert client.server.reset == {stream}
    again = client.ask(b"x")
    client.exchange()
    assert client.answers[again] == b"x"


def test_http2_server_reset_ends_stream_of_sending_client() -> None:
    client = Client(Echo(), 5)
    stream = client.ask(b"")
    silent = client.h2.get_next_available_stream_id()
    client.h2.send_headers(silent, list(REQUEST.items()))
    client.exchange()
    client.server.http2.send_headers(silent, [(b":status", b"200"), (b"grpc-status", b"16")], last=True)
    client.exchange()
    kinds = [type(event) for event in client.events if getattr(event, "stream_id", None) == silent]
    assert kinds == [ResponseReceived, StreamEnded, StreamReset]
    assert stream in client.server.requests


def test_http2_ping_is_answered_and_asked() -> None:
    client = Client(Echo(), 6)
    client.h2.ping(b"12345678")
    client.server.http2.ping(b"87654321")
    client.exchange()
    assert client.server.answered == b"87654321"
    assert {type(event).__name__ for event in client.events} >= {"PingAckReceived", "PingReceived"}


def test_http2_go_away_lets_streams_end() -> None:
    client = Client(Echo(), 7)
    client.exchange()
    client.server.http2.go_away()
    client.exchange()
    (gone,) = [event for event in client.events if isinstance(event, ConnectionTerminated)]
    assert (gone.error_code, gone.last_stream_id) == (0, 0)


# -- violations --------------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def begun() -> bytes:
    """Return the beginning of a connection."""
    return PREFACE + frame(SETTINGS, 0, 0)


OPEN = frame(HEADERS, 0x4, 1, BLOCK)
WINDOW = struct.pack(">I", 2**31 - 1)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"GET / HTTP/1.1\r\n", Http2Code.PROTOCOL_ERROR),
        (PREFACE + frame(PING, 0, 0, bytes(8)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(DATA, 0, 0, b"x"), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(DATA, 0, 1, b"x"), Http2Code.PROTOCOL_ERROR),
        (begun() + OPEN + frame(DATA, 0x8, 1, b"\x05x"), Http2Code.PROTOCOL_ERROR),
        (begun() + OPEN + frame(DATA, 0x1, 1, b"x") + frame(DATA, 0, 1, b"x"), Http2Code.STREAM_CLOSED),
        (begun() + OPEN + frame(DATA, 0, 1, bytes(16_384)) * 5, Http2Code.FLOW_CONTROL_ERROR),
        (begun() + frame(HEADERS, 0x4, 0, BLOCK), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(HEADERS, 0x4, 2, BLOCK), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(HEADERS, 0x4 | 0x20, 1, b"\0"), Http2Code.FRAME_SIZE_ERROR),
        (begun() + frame(HEADERS, 0x4, 1, b"\xff\xff\xff\xff\xff"), Http2Code.COMPRESSION_ERROR),
        (begun() + OPEN + OPEN, Http2Code.PROTOCOL_ERROR),
        (begun() + frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0x4, 3), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1), Http2Code.ENHANCE_YOUR_CALM),
        (begun() + frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(9_000)) * 4, Http2Code.ENHANCE_YOUR_CALM),
        (begun() + frame(CONTINUATION, 0x4, 1, BLOCK), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(RST_STREAM, 0, 1, bytes(4)), Http2Code.PROTOCOL_ERROR),
        (begun() + OPEN + frame(RST_STREAM, 0, 1, bytes(3)), Http2Code.FRAME_SIZE_ERROR),
        (begun() + frame(SETTINGS, 0, 1), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(SETTINGS, 0, 0, bytes(5)), Http2Code.FRAME_SIZE_ERROR),
        (begun() + frame(SETTINGS, 0x1, 0, bytes(6)), Http2Code.FRAME_SIZE_ERROR),
        (begun() + frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), Http2Code.FLOW_CONTROL_ERROR),
        (begun() + frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 100)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(PING, 0, 0, bytes(7)), Http2Code.FRAME_SIZE_ERROR),
        (begun() + frame(PING, 0, 1, bytes(8)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(PUSH_PROMISE, 0, 1, bytes(4)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(WINDOW_UPDATE, 0, 0, bytes(4)), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(WINDOW_UPDATE, 0, 1, WINDOW), Http2Code.PROTOCOL_ERROR),
        (begun() + frame(WINDOW_UPDATE, 0, 0, WINDOW), Http2Code.FLOW_CONTROL_ERROR),
        (begun() + OPEN + frame(WINDOW_UPDATE, 0, 1, WINDOW), Http2Code.FLOW_CONTROL_ERROR),
        (begun() + frame(WINDOW_UPDATE, 0, 0, bytes(5)), Http2Code.FRAME_SIZE_ERROR),
        (begun() + struct.pack(">I", 16_385)[1:] + bytes(6), Http2Code.FRAME_SIZE_ERROR),
    ],
)
def test_http2_violation_ends_connection_with_code(frames: bytes, code: Http2Code) -> None:
    server = Silent()
    with pytest.raises(Http2Error) as caught:
        server.http2.receive(frames)
    assert caught.value.code is code
    sent = server.http2.take()
    at = sent.rindex(bytes([GOAWAY, 0, 0, 0, 0, 0]))
    assert struct.unpack_from(">I", sent, at + 10)[0] == code


@given(st.binary(max_size=300), st.integers(0, 12), st.integers(0, 255), st.integers(0, 4))
def test_http2_any_bytes_are_taken_or_end_the_connection(content: bytes, kind: int, flags: int, stream: int) -> None:
    server = Echo()
    with suppress(Http2Error):
        server.http2.receive(begun() + OPEN + frame(kind, flags, stream, content) + content)


@pytest.mark.parametrize("ignored", [PRIORITY, GOAWAY, 10, 99])
def test_http2_ignores_frames_without_meaning(ignored: int) -> None:
    server = Echo()
    server.http2.receive(begun() + frame(ignored, 0, 0, b"12345678") + frame(HEADERS, 0x4 | 0x1, 1, BLOCK))
    assert list(server.requests) == [1]


def test_http2_request_with_invalid_headers_is_reset_alone() -> None:
    server = Echo()
    blocks = {1: BLOCK + b"\x00\x01a\x03b\r\n", 3: b"\x83", 5: BLOCK}
    server.http2.receive(begun() + b"".join(frame(HEADERS, 0x4, stream, block) for stream, block in blocks.items()))
    assert list(server.requests) == [5]
    sent = server.http2.take()
    for stream in (1, 3):
        assert frame(RST_STREAM, 0, stream, struct.pack(">I", Http2Code.PROTOCOL_ERROR)) in sent
