"""Parts of one answer, sent to its client as they are made: over its reply stream, or to its reply topic.

Rules.
* Parts are numbered from 0 within the attempt, which has a random name: a query may be computed again after a crash.
* Text that cannot be sent now is kept, and goes out with the next part. The text kept is bounded by the answer. It is
  encoded only when there is a connection with room. Tokens without text wait for the next text, or for the end.
* A piece of the prompt is a part without text, over a stream only: its receiver returns it if nobody waits.
* Over a stream nothing is retried: the result, which follows, has the whole text.
* If the stream takes nothing for `PATIENCE_S`, the parts go to the topic from then on, else the caller would take the
  answer for dead. The numbers continue, so the receiver joins both.
* Meanwhile a stream that connects late asks if anybody waits: a part without content goes over it, at most one in
  `PATIENCE_S`. Its number is that of no part, so it may be lost.
* To a topic, parts are posted one after the other, and the result after them, with one key: the order is kept.
"""

import math
import secrets
import time
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
PATIENCE_S: Final = 0.5
"""Seconds for which parts wait for their stream."""
_NO_PART: Final = -1
"""Number before all parts; a receiver ignores the content."""


def _ignore(_outcome: object) -> None:
    """Ignore the outcome of a part: the result has the whole text."""


class AnswerParts:
    """Sender of the parts of one answer; used on the event loop."""

    def __init__(
        self,
        query: PendingQuery,
        streams: ReplyStreamSender,
        producer: Producer,
        on_unwanted: Callable[[], None],
        index: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_unwanted` is called when nobody waits for the answer any more; `index` is the place of its text."""
        self._query = query
        self._streams = streams
        self._producer = producer
        self._on_unwanted = on_unwanted
        self._index = index
        self._attempt = secrets.token_hex(_ATTEMPT_BYTES)
        self._number = 0
        self._texts: list[str] = []
        self._tokens = 0
        self._logprobs: list[TokenLogprob] = []
        self._clock = clock
        self._refused_s: float | None = None
        """Time since which the stream takes nothing."""
        self._is_to_topic = not query.reply_stream
        self._asked_s = -math.inf
        """Time at which the stream was last asked if anybody waits."""

    @property
    def is_to_topic(self) -> bool:
        """True if parts go to the reply topic, by `post`."""
        return self._is_to_topic

    def add(self, part: AnswerPart) -> None:
        """Add a part, and send over the stream what is not sent yet."""
        if part.text:
            self._texts.append(part.text)
        self._tokens += part.tokens
        self._logprobs += part.logprobs
        is_prompt = not part.tokens
        if self._is_to_topic:
            self._ask()
            return
        if not (self._texts or is_prompt):
            return
        if self._send():
            self._refused_s = None
            return
        now_s = self._clock()
        self._refused_s = now_s if self._refused_s is None else self._refused_s
        self._is_to_topic = now_s - self._refused_s >= PATIENCE_S

    def end(self) -> None:
        """Send over the stream what is not sent yet, with the tokens that have no text. The result has them too."""
        if self._is_unsent and not self._is_to_topic:
            self._send()

    async def post(self, *, last: bool = False) -> None:
        """Send to the topic what is not sent yet; wait while too many records are not acknowledged.

        Tokens without text go only with the last part.
        """
        if self._texts or (last and self._is_unsent):
            headers, value = self._headers(self._number), self._value()
            self._sent()
            await self._producer.post(
                self._query.reply_to, value, _ignore, key=self._query.id.encode(), headers=headers
            )

    @property
    def _is_unsent(self) -> bool:
        return bool(self._texts or self._tokens or self._logprobs)

    def _send(self) -> bool:
        stream, streams = self._query.reply_stream, self._streams
        if not streams.can_send_part(stream):
            return False
        sent = streams.send_part(stream, self._headers(self._number), self._value(), self._on_unwanted)
        if sent:
            self._sent()
        return sent

    def _ask(self) -> None:
        """Ask the receiver of the stream if anybody waits, unless that was asked a short time ago."""
        stream, streams = self._query.reply_stream, self._streams
        now_s = self._clock()
        if not stream or now_s - self._asked_s < PATIENCE_S or not streams.can_send_part(stream):
            return
        nothing = _encode(AnswerPart(text="", tokens=0, index=self._index))
        if streams.send_part(stream, self._headers(_NO_PART), nothing, self._on_unwanted):
            self._asked_s = now_s

    def _headers(self, number: int) -> h.RawHeaders:
        fields = self._query.fields
        headers = [(h.ID, self._query.id.encode()), (h.PART, f"{self._attempt} {number}".encode())]
        if h.CORRELATION in fields:
            headers.append((h.CORRELATION, fields[h.CORRELATION].encode()))
        return headers

    def _value(self) -> bytes:
        text = "".join(self._texts)
        return _encode(AnswerPart(text=text, tokens=self._tokens, logprobs=self._logprobs, index=self._index))

    def _sent(self) -> None:
        self._number += 1
        self._texts, self._tokens, self._logprobs = [], 0, []
