"""Dead letters of a system: lists them, replays some, and drops others.

A replay works on some hundred letters at a time: it claims them, reads the claims back, sends the letters whose claim
is its own, and marks them. A letter that was claimed by a replay that was cut off stays claimed for a minute. Then the
next replay sends it, unless its query has an answer in its reply topic by then: such a letter is marked `answered`, and
not sent. If the answer went over a connection instead, the query is computed twice, but its receiver delivers only one
result.

Topics may hold far more letters than fit into memory: they are read as a stream, and only a limited number of outlines
is kept.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final
from uuid import uuid4

import msgspec

from broker.dead_letters.resending import (
    destination,
    headers_to_sign,
    obstacle,
    reply_topic,
    resent_headers,
    tenant_to_sign_for,
)
from broker.dead_letters.stored_letter import (
    Dispositions,
    LetterFilter,
    LetterId,
    LetterState,
    Mark,
    StoredLetter,
    stored_letter,
)
from broker.fetch.tail import Tail
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from broker.kafka.types import KafkaError, TopicPartition
from broker.producing.producer import Ack, Producer
from broker.topic_logs import delete_before, topic_names
from process.signing import sign_headers
from schemas import headers as h
from schemas.errors import OperatorError
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.topics import DEAD_LETTERS, LETTER_MARKS, task_of

_CLIENT: Final = "infaas-dead-letters"
_CHUNK: Final = 200
_CHUNK_BYTES: Final = 32 << 20
_ANSWERED_BEFORE_MS: Final = 600_000
"""Milliseconds before the first letter from which on answers are searched: an answer may be older than the letter."""
_CLAIMED: Final = "claimed by another replay; try again in a minute"

MOST_LETTERS: Final = 10_000
"""Maximum number of dead letters in one request; the next request continues after the last one."""


class ReplayReport(msgspec.Struct):
    """Outcome of a replay."""

    replayed: int = 0
    answered: int = 0
    """Number of letters that were not sent, since their query has an answer."""
    passed_over: dict[str, str] = {}
    """Reasons why other letters were not sent, by letter."""
    begun_ms: float = 0.0
    """Time of the first send by the broker's clock: a dead letter from after that may be one of these letters again."""
    after: str = ""
    """Cursor of the last letter that was processed, if time was up before all were: the next replay continues after
    it."""


class DeadLetters:
    """All dead letters of a system. Its methods raise `OperatorError` if Kafka fails.

    Args:
        settings: address of Kafka and access to it.
        secret: secret that signs the queries that were signed; None: such queries are not replayed.
    """

    def __init__(self, settings: KafkaSettings, secret: bytes | None = None) -> None:
        self._settings = settings
        self._secret = secret
        self._me = uuid4().hex

    async def find(
        self, wanted: LetterFilter, limit: int = MOST_LETTERS, *, oldest: bool = False
    ) -> list[StoredLetter]:
        """Return outlines of letters, oldest first: the latest ones, or with `oldest` the first ones, up to `limit`."""
        found = deque[StoredLetter](maxlen=limit)
        async with aclosing(self._all(wanted)) as letters:
            async for stored in letters:
                found.append(stored.outlined())
                if oldest and len(found) == limit:
                    break
        return list(found)

    async def show(self, letter: LetterId) -> StoredLetter | None:
        """Return one letter with its value; None if there is none."""
        found = await self.find(LetterFilter(ids=(letter,), done=True), 1, oldest=True)
        if not found:
            return None
        async with _explained():
            async for chunk in self._whole(found):
                return msgspec.structs.replace(chunk[0], state=found[0].state)
        return None

    async def replay(self, letters: Sequence[StoredLetter], within_s: float = math.inf) -> ReplayReport:
        """Replay letters from `find`; each is sent once, however often this is requested.

        After `within_s` seconds no more letters are begun, and the report names the last one.
        """
        report, done, until_s = ReplayReport(), 0, time.monotonic() + within_s
        if not letters:
            return report
        async with _explained(), Producer(self._settings, _CLIENT) as producer, self._tail(LETTER_MARKS) as tail:
            topics, marks = frozenset(await topic_names(self._settings)), Dispositions()
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
                if done < len(letters) and time.monotonic() >= until_s:
                    report.after = str(chunk[-1].cursor)
                    break
        return report

    async def drop(self, letters: Sequence[StoredLetter]) -> int:
        """Drop letters from `find`: hide them from lists, and delete them once all letters before them are finished."""
        async with _explained(), Producer(self._settings, _CLIENT) as producer:
            for start in range(0, len(letters), _CHUNK):
                chunk = letters[start : start + _CHUNK]
                await self._mark(producer, [(stored, LetterState.DROPPED) for stored in chunk])
        if letters:
            await self._trim()
        return len(letters)

    # -- sending again -------------------------------------------------------------------------------------------------

    async def _claim(
        self, producer: Producer, tail: Tail, marks: Dispositions, letters: Sequence[StoredLetter]
    ) -> list[StoredLetter]:
        """Claim letters; return the letters without an earlier claim and without a final state."""
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
        """Return the headers of the record to send, with a new signature if its tenant must be proved again."""
        headers = resent_headers(stored)
        if self._secret is None or not tenant_to_sign_for(stored):
            return headers
        task, covered = task_of(destination(stored)), headers_to_sign(stored)
        return [*headers, await sign_headers(self._secret, task, covered, stored.letter.value, at_ms)]

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
        """Return the reply topics and ids of the letters' queries that have an answer there."""
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
        """Read all letters that the filter accepts, with their values, in the order of the log."""
        await ensure_system_topics(self._settings)
        marks, since_ms = Dispositions(), wanted.since_ms or 0.0
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
        """Delete the letters before the first one that is not finished."""
        if not (await broker_features(self._settings)).trims:
            return
        offsets = dict[TopicPartition, int]()
        async with aclosing(self._all(LetterFilter(done=True))) as letters:
            async for stored in letters:
                if not stored.state.is_final:
                    break
                offsets[TopicPartition(DEAD_LETTERS, stored.id.partition)] = stored.id.offset + 1
        async with _explained():
            await delete_before(self._settings, offsets)

    def _tail(self, *topics: str, since_ms: float = 0.0) -> Tail:
        return Tail(self._settings, _CLIENT, topics, since_ms=since_ms)


@asynccontextmanager
async def _explained() -> AsyncGenerator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise OperatorError(f"Kafka failed part of the request ({error!r}); run the command again to resume") from error
