"""Reads the server-sent events of a gateway's `/generate_stream`: parts of an answer, then its result. No I/O."""

from typing import Any, Final

import msgspec
import numpy as np

from broker.replies.answer_stream import OnPart
from infaas.client.transport import EncodedQuery
from schemas import headers as h
from schemas.errors import Internal, InvalidRequest
from schemas.generation import TEXT_OUTPUT, AnswerPart, TokenLogprob
from schemas.oip import encode_response
from schemas.result import Result, error_value, parse_result
from schemas.tensors import Array, bytes_array

_MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of the largest event."""
_END: Final = b"\n\n"


class _Event(msgspec.Struct, frozen=True):
    text_output: str = ""
    tokens: int = 0
    logprobs: list[TokenLogprob] = []
    restarted: bool = False
    error: str | None = None
    reason: str = ""
    code: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mean_logprob: float | None = None
    parameters: dict[str, str] = {}


_decode: Final = msgspec.json.Decoder(_Event).decode
_encode: Final = msgspec.json.Encoder().encode


class EventReader:
    """Reader of the events of one query, over one connection after another."""

    def __init__(self, query: EncodedQuery, on_part: OnPart) -> None:
        self._query = query
        self._on_part = on_part
        self._rest = bytearray()
        self._attempt = 0
        self._number = 0
        self._texts: list[str] = []
        self._length = 0
        self._longest = 0
        self.heard = False
        """True if an event has come over this connection."""
        self.grown = False
        """True if this connection made the text longer than all those before."""

    def connect_again(self) -> None:
        """Begin to read another connection, whose answer begins again."""
        self._rest.clear()
        self.heard = self.grown = False
        self._restart()

    def feed(self, data: bytes) -> Result | None:
        """Take bytes of the response; return the result if they have its last event.

        Raises:
            Internal: the bytes are no events of a gateway.
        """
        self._rest += data
        while (end := self._rest.find(_END)) >= 0:
            event = bytes(self._rest[:end])
            del self._rest[: end + len(_END)]
            result = self._take(event.removeprefix(b"data:"))
            if result is not None:
                return result
        if len(self._rest) > _MAX_BYTES:
            raise Internal("the gateway sends an event without an end")
        return None

    def _take(self, text: bytes) -> Result | None:
        try:
            event = _decode(text)
        except msgspec.MsgspecError as error:
            raise Internal(f"the gateway sends no events of an answer: {error}") from None
        self.heard = True
        if event.error is not None:
            fields = {h.ID: self._query.id, h.STATUS: event.code or "internal", h.REASON: event.reason}
            return parse_result(fields, error_value(event.error))
        if event.restarted:
            self._restart()
        elif event.finish_reason is not None:
            return self._end(event)
        else:
            self._texts.append(event.text_output)
            self._length += len(event.text_output)
            if self._length > self._longest:
                self._longest, self.grown = self._length, True
            part = AnswerPart(text=event.text_output, tokens=event.tokens, logprobs=event.logprobs)
            self._on_part(str(self._attempt), self._number, _encode(part))
            self._number += 1
        return None

    def _restart(self) -> None:
        self._attempt, self._number = self._attempt + 1, 0
        self._texts.clear()
        self._length = 0

    def _end(self, event: _Event) -> Result:
        """Return the result, with the outputs that it would have without a stream."""
        outputs: dict[str, Array] = {
            TEXT_OUTPUT: bytes_array(["".join(self._texts) + event.text_output]),
            "finish_reason": bytes_array([event.finish_reason or ""]),
            "prompt_tokens": np.array([event.prompt_tokens], np.int32),
            "completion_tokens": np.array([event.completion_tokens], np.int32),
        }
        if event.mean_logprob is not None:
            outputs["mean_logprob"] = np.array([event.mean_logprob], np.float32)
        fields: dict[str, Any] = {h.ID: self._query.id, h.STATUS: "ok"} | event.parameters
        try:
            message = encode_response(fields.get(h.VARIANT, ""), self._query.id, outputs)
            return parse_result(fields, message.value)
        except (KeyError, ValueError, InvalidRequest) as error:
            raise Internal(f"the gateway sends no result of an answer: {error}") from None
