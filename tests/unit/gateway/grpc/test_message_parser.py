"""Tests of gRPC's messages in a stream of bytes: any pieces, compression, and bounds."""

import gzip
import struct
import zlib

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.grpc.message_parser import MessageParser, prefixed
from gateway.grpc.status import CallEnded

MOST = 1000


def taken(parser: MessageParser) -> list[bytes]:
    found: list[bytes] = []
    while (message := parser.next()) is not None:
        found.append(message)
    return found


@given(st.lists(st.binary(max_size=MOST), max_size=6), st.lists(st.integers(0, 6000), max_size=8))
def test_parser_finds_messages_in_any_pieces(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(prefixed, messages))
    cuts = sorted(min(cut, len(data)) for cut in cuts)
    parser, found = MessageParser("identity", MOST), list[bytes]()
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        parser.feed(data[begin:end])
        found += taken(parser)
    assert found == messages
    assert parser.is_empty


def test_parser_with_part_of_a_message_is_not_empty() -> None:
    parser = MessageParser("identity", MOST)
    parser.feed(prefixed(b"abc")[:-1])
    assert taken(parser) == []
    assert not parser.is_empty


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_parser_decompresses_up_to_the_bound(encoding: str, compress: type) -> None:
    parser = MessageParser(encoding, MOST)
    for size in (0, 10, MOST):
        packed = compress(b"x" * size)
        parser.feed(struct.pack(">BI", 1, len(packed)) + packed)
    assert [len(message) for message in taken(parser)] == [0, 10, MOST]
    bomb = compress(bytes(100 * MOST))
    parser.feed(struct.pack(">BI", 1, len(bomb)) + bomb)
    with pytest.raises(CallEnded, match="more bytes, decompressed") as caught:
        parser.next()
    assert caught.value.status is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("encoding", "data", "status", "words"),
    [
        ("identity", struct.pack(">BI", 0, MOST + 1), "RESOURCE_EXHAUSTED", "1001 bytes, and may have at most 1000"),
        ("identity", struct.pack(">BI", 1, 1) + b"x", "INTERNAL", "names no encoding"),
        ("gzip", struct.pack(">BI", 1, 1) + b"x", "INTERNAL", "no gzip"),
        ("gzip", struct.pack(">BI", 1, 12) + gzip.compress(b"abc", mtime=0)[:12], "INTERNAL", "cut off"),
    ],
)
def test_parser_refuses_wrong_messages(encoding: str, data: bytes, status: str, words: str) -> None:
    parser = MessageParser(encoding, MOST)
    parser.feed(data)
    with pytest.raises(CallEnded, match=words) as caught:
        parser.next()
    assert caught.value.status is grpc.StatusCode[status]
