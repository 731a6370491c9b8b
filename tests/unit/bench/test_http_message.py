"""Tests of the HTTP messages that the compiled load client sends and stores."""

import pytest

from bench.load.http_message import HttpRequest, RawAnswer, SampledAnswer, parse_answer, read_samples

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: a: b\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"


def test_http_request_has_content_length() -> None:
    message = HttpRequest("/v2/infer", {"Content-Type": "text/plain"}, b"\x00\r\n\r\n").message()
    head, _, body = message.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v2/infer HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Content-Type: text/plain",
        b"Content-Length: 5",
    ]
    assert body == b"\x00\r\n\r\n"


@pytest.mark.parametrize("message", [PLAIN, CHUNKED])
def test_parse_answer_reads_length_and_chunks(message: bytes) -> None:
    assert parse_answer(message).body == b"hello"


def test_parse_answer_lowers_header_names() -> None:
    assert parse_answer(PLAIN).headers == {"content-length": "5", "x-name": "a: b"}


def test_read_samples_splits_by_length() -> None:
    content = b"".join(b"%d %d\n%b" % (number, len(text), text) for number, text in ((0, PLAIN), (3, CHUNKED)))
    first, second = read_samples(content)
    assert first == SampledAnswer(0, RawAnswer({"content-length": "5", "x-name": "a: b"}, b"hello"))
    assert (second.request, second.answer.body) == (3, b"hello")


def test_read_samples_of_empty_content() -> None:
    assert list(read_samples(b"")) == []
