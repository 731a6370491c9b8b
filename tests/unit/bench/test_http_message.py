"""Messages of HTTP as the compiled client sends and keeps them."""

import pytest

from bench.load_client.http_message import HttpRequest, RawAnswer, SampledAnswer, parse_answer, read_samples

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: a: b\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"


def test_a_request_carries_its_length() -> None:
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
def test_a_body_is_read_by_length_and_in_chunks(message: bytes) -> None:
    assert parse_answer(message).body == b"hello"


def test_names_of_headers_are_in_lower_case_and_values_whole() -> None:
    assert parse_answer(PLAIN).headers == {"content-length": "5", "x-name": "a: b"}


def test_samples_are_told_apart_by_their_lengths() -> None:
    content = b"".join(b"%d %d\n%b" % (number, len(text), text) for number, text in ((0, PLAIN), (3, CHUNKED)))
    first, second = read_samples(content)
    assert first == SampledAnswer(0, RawAnswer({"content-length": "5", "x-name": "a: b"}, b"hello"))
    assert (second.request, second.answer.body) == (3, b"hello")


def test_a_run_without_answers_has_no_samples() -> None:
    assert list(read_samples(b"")) == []
