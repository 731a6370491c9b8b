"""`POST /v1/embeddings`: request and response. Pure."""

import base64
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import orjson

from gateway.openai.vectors import Vectors
from schemas.errors import InvalidRequest
from schemas.openai import NEEDS, EmbeddingRequest, Encoding
from schemas.query_names import Parameter, nearest_name

_AT_ONCE: Final = 8192
"""Numbers that are encoded in one piece, in less than a millisecond."""

_embeddings: Final = msgspec.json.Decoder(EmbeddingRequest)


def read_embedding_request(body: bytes) -> EmbeddingRequest:
    """Read a request.

    Raises:
        InvalidRequest: it is invalid; the message names the field.
    """
    return read_json(body, _embeddings)


def read_json(body: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """Decode JSON; raises `InvalidRequest` that names the wrong field."""
    try:
        return decoder.decode(body)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(str(error) if body else "the body is empty: send JSON") from None


_SHOWN: Final = 80
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_need: Final = msgspec.json.Decoder(Parameter)


def read_needs(body: bytes, known: tuple[str, ...]) -> dict[str, Parameter]:
    """Return the needs in a body that was decoded before, beside the `known` fields of its request.

    Raises:
        InvalidRequest: a field is neither known nor a need, or a need is no plain value.
    """
    needs: dict[str, Parameter] = {}
    for name, raw in read_json(body, _fields).items():
        if name in NEEDS:
            try:
                needs[name] = _need.decode(raw)
            except (msgspec.MsgspecError, UnicodeError) as error:
                raise InvalidRequest(f"$.{name}: {error}") from None
        elif name not in known:
            names = (*known, *NEEDS)
            nearest = nearest_name(name[:_SHOWN], names)
            instead = f"did you mean {nearest}?" if nearest else f"there are {', '.join(names)}"
            raise InvalidRequest(f"$.{name[:_SHOWN]}: there is no such field; {instead}")
    return needs


def embedding_pieces(model: str, vectors: Vectors, tokens: int, encoding: Encoding) -> Iterator[bytes]:
    """Yield the response in JSON, in pieces that each take less than a millisecond."""
    yield b'{"object":"list","data":['
    step = max(_AT_ONCE // max(vectors.shape[1], 1), 1)
    for begin in range(0, len(vectors), step):
        part = vectors[begin : begin + step]
        yield (b"," if begin else b"") + b",".join(_data(part, begin, encoding))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield b'],"model":' + orjson.dumps(model) + b',"usage":' + orjson.dumps(usage) + b"}"


def _data(vectors: Vectors, first: int, encoding: Encoding) -> Iterator[bytes]:
    for index, vector in enumerate(vectors, first):
        value: object = vector
        if encoding == "base64":
            value = base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
        data = {"object": "embedding", "index": index, "embedding": value}
        yield orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
