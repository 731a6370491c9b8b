"""HTTP/1.1 requests and answers as whole messages, as the compiled client sends and keeps them."""

from collections.abc import Iterator, Mapping

import msgspec

from schemas.headers import JSON_LENGTH
from schemas.oip import EncodedMessage, decode_response
from schemas.tensors import Array


class HttpRequest(msgspec.Struct, frozen=True):
    """Request to send."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def message(self) -> bytes:
        """Return head and body, for a keep-alive connection."""
        fields = {"Host": "127.0.0.1", **self.headers, "Content-Length": str(len(self.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


def infer_request(model: str, query: EncodedMessage, **more: str) -> HttpRequest:
    """Return a request to a model in the binary extension of the Open Inference Protocol, with `more` headers."""
    headers = {"Content-Type": query.content_type, JSON_LENGTH: str(query.json_length or 0), **more}
    return HttpRequest(f"/v2/models/{model}/infer", headers, query.value)


class RawAnswer(msgspec.Struct, frozen=True):
    """Received answer; the names of its headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes


def infer_output(answer: RawAnswer) -> Array:
    """Return the first output of an answer in the Open Inference Protocol."""
    length = answer.headers.get(JSON_LENGTH)
    return next(iter(decode_response(answer.body, int(length) if length else None).outputs.values()))


class SampledAnswer(msgspec.Struct, frozen=True):
    """Answer that a load kept, with the number of its request."""

    request: int
    answer: RawAnswer


def read_samples(content: bytes) -> Iterator[SampledAnswer]:
    """Parse the client's samples: each is a line with the request's number and the answer's length, then the answer."""
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        request, length = content[at:end].split()
        at = end + 1 + int(length)
        yield SampledAnswer(int(request), parse_answer(content[end + 1 : at]))


def parse_answer(message: bytes) -> RawAnswer:
    """Parse a whole answer; its body has a length or is chunked."""
    head, _, body = message.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")[1:]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    return RawAnswer(headers, b"".join(_chunks(body)) if chunked else body)


def _chunks(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        yield body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
