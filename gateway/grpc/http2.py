"""HTTP/2 (RFC 9113) as a server of gRPC needs it: bytes in, requests out, and back. No I/O.

    receive(bytes) -> requests, data, resets (`Http2Requests`) -> send_headers, send_data, reset, grant -> take()

The library h2 takes 180 µs a call, five times as long, most of it in states that a server without push, priorities and
informational responses does not have. What remains of a stream is: open, half closed by its client, or gone.

Rules.
* A violation of the protocol ends the connection (`Http2Error`), after a GOAWAY that names it. An error of the client's
  stream alone, such as too many of them, resets the stream.
* Frames of a stream that is gone are ignored, but their header blocks are decoded and their data is counted, as both
  belong to the state of the connection.
* All that a client can make grow is bounded: streams, a header block in pieces, unread data by the windows. Answers to
  its frames (PING, SETTINGS, resets) accumulate only while its reader does not read, so the caller stops to `receive`.
"""

import struct
from enum import IntEnum
from typing import Final, Protocol

from gateway.grpc.header_fields import HeaderBlockDecoder, InvalidHeaders, RawFields, encode_fields

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES: Final = 16_384
"""Largest frame that is accepted, the protocol's default."""
STREAM_WINDOW: Final = 65_535
"""Bytes that a client may send for a stream before it is granted more, the protocol's default."""
_WINDOW: Final = 16 * 1024 * 1024
_HEADER_BLOCK_BYTES: Final = 32 * 1024
_MOST_WINDOW: Final = 2**31 - 1
_HEAD: Final = struct.Struct(">HBBBI")  # length, high bits and low byte; type, flags, stream
_SETTING: Final = struct.Struct(">HI")
_NUMBER: Final = struct.Struct(">I")
_TWO_NUMBERS: Final = struct.Struct(">II")
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_PRIORITY_BYTES: Final = 5
_ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADERS = 2, 3, 4, 5, 6
_LARGEST_FRAME: Final = 2**24 - 1


class Http2Code(IntEnum):
    """Error codes (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Http2Error(Exception):
    """The client has violated the protocol; the connection ends."""

    def __init__(self, code: Http2Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Http2Requests(Protocol):
    """Receiver of what a client sends."""

    def on_request(self, stream: int, fields: dict[str, str], *, ended: bool) -> None:
        """Take a request; `ended` without a body."""
        ...

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """Take data of a stream, which took `size` bytes of its window."""
        ...

    def on_reset(self, stream: int) -> None:
        """Forget a stream, which its client has reset."""
        ...

    def on_window(self, stream: int) -> None:
        """Send more of a stream, or of all if it is 0, as a window may have become larger."""
        ...

    def on_ping_answered(self, payload: bytes) -> None:
        """Note that the client has handled all that was sent before a ping."""
        ...


class _Stream:
    """Stream that neither side has reset and that we have not ended."""

    __slots__ = ("ended", "receive_window", "send_credit")

    def __init__(self) -> None:
        self.send_credit = 0
        """Bytes granted by the client minus bytes sent, beyond the initial window of its streams."""
        self.receive_window = STREAM_WINDOW
        self.ended = False
        """True if the client sends nothing more for it."""


class Http2Server:
    """Server's side of one connection."""

    def __init__(self, requests: Http2Requests, most_streams: int, most_header_bytes: int) -> None:
        """Accept `most_streams` at once, with headers of `most_header_bytes`, names and values added up."""
        self.last_stream = 0
        """Number of the last stream that the client has opened."""
        self.has_settings = False
        """True once the client has begun the connection as the protocol demands."""
        self._requests = requests
        self._most_streams = most_streams
        self._headers = HeaderBlockDecoder(most_header_bytes)
        self._streams: dict[int, _Stream] = {}
        self._held = b""
        self._begun = False
        self._block: tuple[int, bool, bytearray] | None = None
        """Stream, end of the stream, and pieces of a header block that is not complete."""
        self._send_window = STREAM_WINDOW
        self._receive_window = _WINDOW
        self._stream_window = STREAM_WINDOW
        """Initial window of all streams, as the client has set it."""
        self._frame_bytes = FRAME_BYTES
        self._out: list[bytes] = []
        settings = ((_MAX_STREAMS, most_streams), (_MAX_HEADERS, most_header_bytes))
        self._put(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in settings))
        self._put(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(_WINDOW - STREAM_WINDOW))

    def take(self) -> bytes:
        """Return the bytes to send."""
        out, self._out = self._out, []
        return b"".join(out)

    # -- what the client sends -----------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> None:
        """Take bytes of the client.

        Raises:
            Http2Error: they violate the protocol; a GOAWAY that says so is to be sent.
        """
        try:
            self._receive(self._held + data if self._held else data)
        except Http2Error as error:
            self.go_away(error.code, str(error))
            raise

    def _receive(self, data: bytes) -> None:
        at, size = 0, len(data)
        if not self._begun:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise Http2Error(Http2Code.PROTOCOL_ERROR, "the connection does not begin as HTTP/2")
            if size < len(PREFACE):
                self._held = data
                return
            at, self._begun = len(PREFACE), True
        while size - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > FRAME_BYTES:
                raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "a frame is too large")
            end = at + _HEAD.size + length
            if end > size:
                break
            self._on_frame(kind, flags, stream & _MOST_WINDOW, data[at + _HEAD.size : end])
            at = end
        self._held = data[at:]

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and (kind != _CONTINUATION or stream != self._block[0]):
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "a frame interrupts a header block")
        if not self.has_settings and kind != _SETTINGS:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == _DATA:
            self._on_data(flags, stream, payload)
        elif kind == _HEADERS:
            self._on_headers(flags, stream, payload)
        elif kind == _WINDOW_UPDATE:
            self._on_window_update(stream, payload)
        elif kind == _RST_STREAM:
            self._on_reset(stream, payload)
        elif kind == _SETTINGS:
            self._on_settings(flags, stream, payload)
        elif kind == _PING:
            self._on_ping(flags, stream, payload)
        elif kind == _CONTINUATION:
            self._on_continuation(flags, payload)
        elif kind == _PUSH_PROMISE:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "a client cannot push")
        # PRIORITY is obsolete, GOAWAY announces the end of the connection, and unknown frames are extensions.

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if not number or number > self.last_stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "DATA of a stream that was not opened")
        if size > self._receive_window:
            raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "more DATA than the window of the connection")
        self._receive_window -= size
        if self._receive_window < 3 * _WINDOW // 4:
            self._put(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(_WINDOW - self._receive_window))
            self._receive_window = _WINDOW
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.ended:
            raise Http2Error(Http2Code.STREAM_CLOSED, "DATA after the end of a stream")
        if size > stream.receive_window:
            raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "more DATA than the window of a stream")
        stream.receive_window -= size
        stream.ended = bool(flags & _END_STREAM)
        data = _without_padding(payload) if flags & _PADDED else payload
        self._requests.on_data(number, data, size, ended=stream.ended)

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "HEADERS of a stream that no client opens")
        if flags & _PADDED:
            payload = _without_padding(payload)
        if flags & _WITH_PRIORITY:
            if len(payload) < _PRIORITY_BYTES:
                raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "HEADERS are too short")
            payload = payload[_PRIORITY_BYTES:]
        ended = bool(flags & _END_STREAM)
        if flags & _END_HEADERS:
            self._on_block(number, payload, ended=ended)
        else:
            self._block = number, ended, bytearray(payload)

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        number, ended, block = self._block
        if not payload and not flags & _END_HEADERS:
            raise Http2Error(Http2Code.ENHANCE_YOUR_CALM, "an empty CONTINUATION")
        block += payload
        if len(block) > _HEADER_BLOCK_BYTES:
            raise Http2Error(Http2Code.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & _END_HEADERS:
            self._block = None
            self._on_block(number, bytes(block), ended=ended)

    def _on_block(self, number: int, block: bytes, *, ended: bool) -> None:
        try:
            fields = self._headers.decode(block)
        except InvalidHeaders as error:
            raise Http2Error(Http2Code.COMPRESSION_ERROR, str(error)) from None
        if number <= self.last_stream:
            self._on_trailers(number, ended=ended)
            return
        self.last_stream = number
        if len(self._streams) >= self._most_streams:
            self._put_reset(number, Http2Code.REFUSED_STREAM)
        elif fields is None:
            self._put_reset(number, Http2Code.PROTOCOL_ERROR)
        else:
            stream = self._streams[number] = _Stream()
            stream.ended = ended
            self._requests.on_request(number, fields, ended=ended)

    def _on_trailers(self, number: int, *, ended: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.ended or not ended:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "trailers that do not end a stream")
        stream.ended = True
        self._requests.on_data(number, b"", 0, ended=True)

    def _on_reset(self, number: int, payload: bytes) -> None:
        _check_size(payload, _NUMBER.size)
        if not number or number > self.last_stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "a reset of a stream that was not opened")
        if self._streams.pop(number, None) is not None:
            self._requests.on_reset(number)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        self.has_settings = True
        if flags & _ACK:
            _check_size(payload, 0)
            return
        if len(payload) % _SETTING.size:
            raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        for setting, value in _SETTING.iter_unpack(payload):
            self._on_setting(setting, value)
        self._put(_SETTINGS, _ACK, 0, b"")
        self._requests.on_window(0)

    def _on_setting(self, setting: int, value: int) -> None:
        if setting == _INITIAL_WINDOW:
            if value > _MOST_WINDOW:
                raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "the initial window is too large")
            self._stream_window = value  # of open streams, too; a walk over them for each setting would be expensive
        elif setting == _MAX_FRAME:
            if not FRAME_BYTES <= value <= _LARGEST_FRAME:
                raise Http2Error(Http2Code.PROTOCOL_ERROR, "the largest frame is out of range")
            self._frame_bytes = value
        elif setting == _ENABLE_PUSH and value > 1:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        _check_size(payload, 8)
        if stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "PING of a stream")
        if flags & _ACK:
            self._requests.on_ping_answered(payload)
        else:
            self._put(_PING, _ACK, 0, payload)

    def _on_window_update(self, number: int, payload: bytes) -> None:
        _check_size(payload, _NUMBER.size)
        size = _NUMBER.unpack(payload)[0] & _MOST_WINDOW
        if not size or number > self.last_stream:
            raise Http2Error(Http2Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if not number:
            self._send_window = _enlarged(self._send_window, size)
        elif (stream := self._streams.get(number)) is not None:
            stream.send_credit = _enlarged(self._stream_window + stream.send_credit, size) - self._stream_window
        self._requests.on_window(number)

    # -- what we send --------------------------------------------------------------------------------------------------
    def send_headers(self, number: int, fields: RawFields, *, last: bool) -> None:
        """Send headers or trailers; `last` ends the stream, which its client is asked to send no more for."""
        stream = self._streams.get(number)
        if stream is None:
            return
        block, kind, flags = encode_fields(fields), _HEADERS, _END_STREAM if last else 0
        while len(block) > FRAME_BYTES:
            self._put(kind, flags, number, block[:FRAME_BYTES])
            block, kind, flags = block[FRAME_BYTES:], _CONTINUATION, 0
        self._put(kind, flags | _END_HEADERS, number, block)
        if last:
            del self._streams[number]
            if not stream.ended:
                self._put_reset(number, Http2Code.NO_ERROR)

    def send_data(self, number: int, data: memoryview) -> int:
        """Send as much as windows permit, at most a frame; return the number of bytes."""
        stream = self._streams.get(number)
        if stream is None:
            return len(data)
        window = self._stream_window + stream.send_credit
        size = max(min(len(data), window, self._send_window, self._frame_bytes), 0)
        if size:
            stream.send_credit -= size
            self._send_window -= size
            self._put(_DATA, 0, number, bytes(data[:size]))
        return size

    def grant(self, number: int, size: int) -> None:
        """Let the client send `size` further bytes for a stream."""
        stream = self._streams.get(number)
        if stream is not None and not stream.ended:
            stream.receive_window += size
            self._put(_WINDOW_UPDATE, 0, number, _NUMBER.pack(size))

    def reset(self, number: int, code: Http2Code) -> None:
        """Reset a stream."""
        if self._streams.pop(number, None) is not None:
            self._put_reset(number, code)

    def ping(self, payload: bytes) -> None:
        """Ask the client for an answer with these eight bytes."""
        self._put(_PING, 0, 0, payload)

    def go_away(self, code: Http2Code = Http2Code.NO_ERROR, reason: str = "", *, soon: bool = False) -> None:
        """Announce the end of the connection: open streams may end, and with `soon` those on their way, too."""
        last = _MOST_WINDOW if soon else self.last_stream
        self._put(_GOAWAY, 0, 0, _TWO_NUMBERS.pack(last, code) + reason.encode())

    def _put_reset(self, number: int, code: Http2Code) -> None:
        self._put(_RST_STREAM, 0, number, _NUMBER.pack(code))

    def _put(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._out.append(_HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream))
        self._out.append(payload)


def _without_padding(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Http2Error(Http2Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def _enlarged(window: int, size: int) -> int:
    if window + size > _MOST_WINDOW:
        raise Http2Error(Http2Code.FLOW_CONTROL_ERROR, "a window is too large")
    return window + size


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise Http2Error(Http2Code.FRAME_SIZE_ERROR, "a frame of a wrong size")
