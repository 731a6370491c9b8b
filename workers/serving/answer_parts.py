"""Parts of one answer, sent to its client as they are made: over its reply stream, or to its reply topic.

Rules.
* Parts are numbered from 0 within the attempt, which has a random name: a query may be computed again after a crash.
* Text that cannot be sent now is kept, and goes out with the next part. The text kept is bounded by the answer.
* Over a stream nothing is retried: the result, which follows, has the whole text.
* To a topic, parts are posted one after the other, and the result after them, with one key: the order is kept.
"""

import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from schemas import headers as h
from schemas.generation import AnswerPart, TokenLogprob
from workers.serving.pending_query import PendingQuery

_encode = msgspec.json.Encoder().encode
_ATTEMPT_BYTES: Final = 6


def _ignore(_outcome: object) -> None:
    """Ignore the outcome of a part: the result has the whole text."""


class AnswerParts:
    """Sender of the parts of one answer; used on the event loop."""

    def __init__(
        self, query: PendingQuery, streams: ReplyStreamSender, producer: Producer, on_unwanted: Callable[[], None]
    ) -> None:
        """`on_unwanted` is called when nobody waits for the answer any more."""
        self._query = query
        self._streams = streams
        self._producer = producer
        self._on_unwanted = on_unwanted
        self._attempt = secrets.token_hex(_ATTEMPT_BYTES)
        self._number = 0
        self._texts: list[str] = []
        self._tokens = 0
        self._logprobs: list[TokenLogprob] = []

    @property
    def is_to_topic(self) -> bool:
        """True if parts go to the reply topic, by `post`."""
        return not self._query.reply_stream

    def add(self, part: AnswerPart) -> None:
        """Add a part, and send over the stream what is not sent yet."""
        self._texts.append(part.text)
        self._tokens += part.tokens
        self._logprobs += part.logprobs
        if not self.is_to_topic:
            query = self._query
            sent = self._streams.send_part(query.reply_stream, self._headers(), self._value(), self._on_unwanted)
            if sent:
                self._sent()

    async def post(self) -> None:
        """Send to the topic what is not sent yet; wait while too many records are not acknowledged."""
        if self._texts:
            headers, value = self._headers(), self._value()
            self._sent()
            await self._producer.post(
                self._query.reply_to, value, _ignore, key=self._query.id.encode(), headers=headers
            )

    def _headers(self) -> h.RawHeaders:
        fields = self._query.fields
        headers = [(h.ID, self._query.id.encode()), (h.PART, f"{self._attempt} {self._number}".encode())]
        if h.CORRELATION in fields:
            headers.append((h.CORRELATION, fields[h.CORRELATION].encode()))
        return headers

    def _value(self) -> bytes:
        return _encode(AnswerPart(text="".join(self._texts), tokens=self._tokens, logprobs=self._logprobs))

    def _sent(self) -> None:
        self._number += 1
        self._texts, self._tokens, self._logprobs = [], 0, []
