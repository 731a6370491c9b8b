"""Reads dead letters, sends some again, and drops others.

Sent again, some hundred at a time: claimed -> the claims read back -> those that are ours sent -> marked. What is cut
off on the way stays claimed for a minute; then it is sent by whoever asks, unless its query has an answer by then in
its reply topic: that is marked `answered`, and not sent. What is answered over a connection instead, receivers show
once.

Topics may hold far more letters than there is memory: they are read through, and so many at once are kept in outline.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final
from uuid import uuid4

import msgspec

from broker.features import broker_features
from broker.kafka_types import KafkaError
from broker.letters.letter import LetterFilter, LetterId, LetterState, StoredLetter, stored_letter
from broker.letters.marks import Mark, Marks
from broker.letters.resending import (
    destination,
    headers_to_sign,
    obstacle,
    reply_topic,
    resent_headers,
    tenant_to_sign_for,
)
from broker.producer import Ack, Producer
from broker.settings import KafkaSettings
from broker.tail import Tail
from broker.topic_logs import LogPartition, TopicLogs
from broker.topics import ensure_system_topics
from process.signing import vouch
from schemas import headers as h
from schemas.endpoints.dead_letters import MOST_LETTERS
from schemas.errors import OperatorError
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.topics import DEAD_LETTERS, LETTER_MARKS, task_of

_CLIENT: Final = "infaas-dead-letters"
_CHUNK: Final = 200
_CHUNK_BYTES: Final = 32 << 20
_ANSWERED_BEFORE_MS: Final = 600_000
"""Milliseconds before the first letter from which on answers are looked for: one may have come before it."""
_CLAIMED: Final = "another replay has it, or was cut off less than a minute ago: run it again later"

Progress = Callable[[int, int], None]
"""Callback with how many letters are finished, of how many."""


class ReplayReport(msgspec.Struct):
    """What became of letters that were to be sent again."""

    replayed: int = 0
    answered: int = 0
    """Number of those that were not sent, since their query has an answer."""
    passed_over: dict[str, str] = {}
    """Why others were not sent, by letter."""
    begun_ms: float = 0.0
    """When the first was to be sent, by the broker's clock: a dead letter since then may be one of these again."""
    after: str = ""
    """The last letter that was looked at, where time was up before all were: go on behind it."""


class LetterBox:
    """All dead letters of a system. Its methods raise `OperatorError` where Kafka does not do what is asked.

    Args:
        settings: how to reach Kafka.
        secret: what queries are signed by that were; None: such ones are not sent again.
    """

    def __init__(self, settings: KafkaSettings, secret: bytes | None = None) -> None:
        self._settings = settings
        self._secret = secret
        self._me = uuid4().hex

    async def find(
        self, wanted: LetterFilter, limit: int = MOST_LETTERS, *, oldest: bool = False
    ) -> list[StoredLetter]:
        """List outlines of letters, the oldest first: the latest of them, or the `oldest`, up to `limit`."""
        found = deque[StoredLetter](maxlen=limit)
        async with aclosing(self._all(wanted)) as letters:
            async for stored in letters:
                found.append(stored.outlined())
                if oldest and len(found) == limit:
                    break
        return list(found)

    async def show(self, letter: LetterId) -> StoredLetter | None:
        """Read one letter, whole; None if there is none."""
        found = await self.find(LetterFilter(ids=(letter,), done=True), 1, oldest=True)
        if not found:
            return None
        async with _explained():
            async for chunk in self._whole(found):
                return msgspec.structs.replace(chunk[0], state=found[0].state)
        return None

    async def replay(
        self, letters: Sequence[StoredLetter], progress: Progress, within_s: float = math.inf
    ) -> ReplayReport:
        """Send letters again that `find` has listed; each is sent once, however often that is asked for.

        After `within_s` no more of them are begun, and the report says how far it came.
        """
        report, done, until_s = ReplayReport(), 0, time.monotonic() + within_s
        if not letters:
            return report
        async with (
            _explained(),
            TopicLogs(self._settings, _CLIENT) as logs,
            Producer(self._settings, _CLIENT) as producer,
            self._tail(LETTER_MARKS) as tail,
        ):
            topics, marks = frozenset(await logs.topics("")), Marks()
            answered = await self._answered(letters, topics)
            async for chunk in self._whole(letters):
                stands = {stored.id: obstacle(stored, topics, signs=self._secret is not None) for stored in chunk}
                ready = [stored for stored in chunk if not stands[stored.id]]
                ours = await self._claim(producer, tail, marks, ready)
                report.begun_ms = report.begun_ms if done else producer.clock.now_ms()
                claimed = {stored.id for stored in ours}
                report.passed_over |= {
                    str(stored.id): stands[stored.id] or _CLAIMED for stored in chunk if stored.id not in claimed
                }
                await self._resend(producer, ours, answered, report)
                done += len(chunk)
                progress(done, len(letters))
                if done < len(letters) and time.monotonic() >= until_s:
                    report.after = str(chunk[-1].cursor)
                    break
        return report

    async def drop(self, letters: Sequence[StoredLetter], progress: Progress) -> int:
        """Drop letters that `find` has listed: they are listed no more, and deleted with what is done before them."""
        async with _explained(), Producer(self._settings, _CLIENT) as producer:
            for start in range(0, len(letters), _CHUNK):
                chunk = letters[start : start + _CHUNK]
                await self._mark(producer, [(stored, LetterState.DROPPED) for stored in chunk])
                progress(start + len(chunk), len(letters))
        if letters:
            await self._trim()
        return len(letters)

    # -- sending again -------------------------------------------------------------------------------------------------

    async def _claim(
        self, producer: Producer, tail: Tail, marks: Marks, letters: Sequence[StoredLetter]
    ) -> list[StoredLetter]:
        """Claim letters; returns those of which no other claim, or anything else, stands before ours."""
        written = await self._mark(producer, [(stored, LetterState.CLAIMED) for stored in letters])
        last, read = max((ack.offset for ack in written), default=-1), -1
        while read < last:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                records = await tail.poll()
            for record in records:
                marks.read(record)
                read = max(read, record.offset)
        return [stored for stored in letters if marks.is_claimed_by(stored, self._me)]

    async def _resend(
        self, producer: Producer, letters: Sequence[StoredLetter], answered: Collection[tuple[str, str]],
        report: ReplayReport,
    ) -> None:  # fmt: skip
        left = [stored for stored in letters if (reply_topic(stored), stored.query) not in answered]
        sends = [
            await producer.send(
                destination(stored),
                stored.letter.value,
                key=stored.letter.key,
                headers=await self._headers(stored, producer.clock.now_ms()),
            )
            for stored in left
        ]
        await asyncio.gather(*sends)
        sent = {stored.id for stored in left}
        outcomes = [(s, LetterState.REPLAYED if s.id in sent else LetterState.ANSWERED) for s in letters]
        await self._mark(producer, outcomes)
        report.replayed += len(left)
        report.answered += len(letters) - len(left)

    async def _headers(self, stored: StoredLetter, at_ms: float) -> RawHeaders:
        """Headers of the record that is sent again, signed where its tenant is to be proved anew."""
        headers = resent_headers(stored)
        if self._secret is None or not tenant_to_sign_for(stored):
            return headers
        task, covered = task_of(destination(stored)), headers_to_sign(stored)
        return [*headers, await vouch(self._secret, task, covered, stored.letter.value, at_ms)]

    async def _mark(self, producer: Producer, outcomes: Iterable[tuple[StoredLetter, LetterState]]) -> list[Ack]:
        sends = [
            await producer.send(
                LETTER_MARKS,
                msgspec.json.encode(Mark(state=state, at_ms=stored.at_ms, by=self._me)),
                key=str(stored.id).encode(),
                partition=0,
            )
            for stored, state in outcomes
        ]
        return await asyncio.gather(*sends)

    async def _answered(self, letters: Sequence[StoredLetter], topics: Collection[str]) -> set[tuple[str, str]]:
        """Reply topics and ids of the letters' queries that have an answer there."""
        asked = {(reply_topic(stored), stored.query) for stored in letters if stored.query}
        replies = sorted({topic for topic, _ in asked if topic in topics})
        found = set[tuple[str, str]]()
        if not replies:
            return found
        async with self._tail(
            *replies, since_ms=max(min(stored.at_ms for stored in letters) - _ANSWERED_BEFORE_MS, 0)
        ) as tail:
            async for record in tail.past():
                headers = dict(record.headers)
                answer = record.topic, (headers.get(h.ID) or b"").decode(errors="replace")
                if headers.get(h.STATUS) == OK.encode() and answer in asked:
                    found.add(answer)
        return found

    # -- reading and deleting ------------------------------------------------------------------------------------------

    async def _all(self, wanted: LetterFilter) -> AsyncGenerator[StoredLetter]:
        """Read all letters that are meant, whole, in the order of the log."""
        await ensure_system_topics(self._settings)
        marks, since_ms = Marks(), wanted.since_ms or 0.0
        async with _explained(), self._tail(LETTER_MARKS) as tail:
            async for record in tail.past():
                marks.read(record)
        if wanted.after is not None:
            since_ms = max(since_ms, wanted.after.at_ms)
        async with _explained(), self._tail(DEAD_LETTERS, since_ms=since_ms) as tail:
            async for record in tail.past():
                stored = stored_letter(record)
                stored = msgspec.structs.replace(stored, state=marks.state(stored))
                if wanted.takes(stored):
                    yield stored

    async def _whole(self, letters: Sequence[StoredLetter]) -> AsyncGenerator[list[StoredLetter]]:
        """Read letters with their values, some at a time."""
        wanted, chunk, size = {stored.id for stored in letters}, list[StoredLetter](), 0
        async with self._tail(DEAD_LETTERS, since_ms=min(stored.at_ms for stored in letters)) as tail:
            async for record in tail.past():
                place = LetterId(record.partition, record.offset)
                if place not in wanted:
                    continue
                wanted.discard(place)
                chunk.append(stored_letter(record))
                size += chunk[-1].value_bytes
                if len(chunk) == _CHUNK or size >= _CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
                if not wanted:
                    break
        if chunk:
            yield chunk

    async def _trim(self) -> None:
        """Delete the letters before the first that is found of which something is to be done."""
        if not (await broker_features(self._settings)).trims:
            return
        offsets = dict[LogPartition, int]()
        async with aclosing(self._all(LetterFilter(done=True))) as letters:
            async for stored in letters:
                if not stored.state.is_final:
                    break
                offsets[LogPartition(DEAD_LETTERS, stored.id.partition)] = stored.id.offset + 1
        async with _explained(), TopicLogs(self._settings, _CLIENT) as logs:
            await logs.delete_before(offsets)

    def _tail(self, *topics: str, since_ms: float = 0.0) -> Tail:
        return Tail(self._settings, _CLIENT, topics, since_ms=since_ms)


@asynccontextmanager
async def _explained() -> AsyncGenerator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise OperatorError(f"Kafka did not do all of it ({error!r}); run it again to go on") from error
