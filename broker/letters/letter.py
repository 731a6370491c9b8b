"""A dead letter as it lies in its topic, and the choice of some of them. Pure."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final, NamedTuple, Self

import msgspec
from msgspec.structs import replace

from broker.dead_letters import DeadLetter, parse_letter
from broker.kafka_types import Record
from schemas import headers as h
from schemas.topics import TASKS, task_of

CLOUD_EVENT_ID = "ce_id"
CLOUD_EVENT_REPLY_TO = "ce_replyto"
_NAMING: Final = frozenset({h.ID, CLOUD_EVENT_ID, h.TASK, h.REPLY_TO, CLOUD_EVENT_REPLY_TO, h.TENANT, h.SIGNATURE})
_MOST_NAMED: Final = 512
"""Bytes of such a header that are looked at: no topic has as many, nor any id that was taken."""


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    CLAIMED = "claimed"
    """Somebody is about to send it again, or was cut off while doing so."""
    REPLAYED = "replayed"
    ANSWERED = "answered"
    """It was not sent again, since its query has an answer."""
    DROPPED = "dropped"

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be done about it."""
        return self in (LetterState.REPLAYED, LetterState.ANSWERED, LetterState.DROPPED)


class LetterId(NamedTuple):
    """Place of a dead letter in its topic, by which people name it: `0/17`, or `17`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes; raises `ValueError` for anything else."""
        partition, slash, offset = text.rpartition("/")
        return cls(int(partition) if slash else 0, int(offset))


class LetterCursor(NamedTuple):
    """Place of a letter, and when it was written, by which what comes after it is found: `0/17@1700000000000`."""

    id: LetterId
    at_ms: int

    def __str__(self) -> str:
        return f"{self.id}@{self.at_ms}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes; raises `ValueError` for anything else."""
        place, _, at_ms = text.partition("@")
        return cls(LetterId.parse(place), int(at_ms))


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, where it lies, and what became of it."""

    id: LetterId
    at_ms: int
    """When it was given up, ms since the epoch by the broker's clock."""
    letter: DeadLetter
    value_bytes: int
    """Size of its value, which `letter` holds only where it was asked for."""
    state: LetterState = LetterState.OPEN

    @property
    def task(self) -> str:
        """Task of the query; empty if it cannot be told."""
        said = self.header(h.TASK)
        return said or (task_of(self.letter.topic) if self.letter.topic.startswith(TASKS) else "")

    @property
    def query(self) -> str:
        """Id of the query; empty if it has none."""
        return self.header(h.ID) or self.header(CLOUD_EVENT_ID)

    @property
    def is_signed(self) -> bool:
        """Whether the record has a signature, right or wrong."""
        return any(name == h.SIGNATURE for name, _ in self.letter.headers)

    def header(self, name: str) -> str:
        """Text of the record's own header of this name, as far as it can be read; empty if there is none.

        The last of a repeated name, as whoever reads the record takes it.
        """
        return next((v.decode(errors="replace") for key, v in reversed(self.letter.headers) if key == name), "")

    @property
    def cursor(self) -> LetterCursor:
        """Where to go on after it."""
        return LetterCursor(self.id, self.at_ms)

    def outlined(self) -> Self:
        """The same for a long list of them: with what names the query alone, and not more of it than a name has."""
        headers = [(name, value[:_MOST_NAMED]) for name, value in self.letter.headers if name in _NAMING]
        return replace(self, letter=replace(self.letter, key=None, value=None, headers=headers))


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; what is absent does not matter."""

    ids: Collection[LetterId] = ()
    task: str | None = None
    reason: str | None = None
    """Part of the reason, in capitals or not."""
    since_ms: float | None = None
    until_ms: float | None = None
    after: LetterCursor | None = None
    """Only those that stand after this place, as long as there is but one partition."""
    done: bool = False
    """Whether those are meant, too, of which nothing more is to be done."""

    def takes(self, found: StoredLetter) -> bool:
        """Whether a letter is meant."""
        return (
            (not self.ids or found.id in self.ids)
            and self.task in (None, found.task)
            and (self.reason is None or self.reason.casefold() in found.letter.reason.casefold())
            and (self.since_ms is None or found.at_ms >= self.since_ms)
            and (self.until_ms is None or found.at_ms < self.until_ms)
            and (self.after is None or found.id > self.after.id)
            and (self.done or not found.state.is_final)
        )


def stored_letter(record: Record, state: LetterState = LetterState.OPEN) -> StoredLetter:
    """Read a record of the dead-letter topic; of one that is no dead letter of ours the reason says so."""
    try:
        letter = parse_letter(record)
    except ValueError as error:
        headers = [(name, value or b"") for name, value in record.headers]
        letter = DeadLetter(
            topic="", partition=-1, offset=-1, reason=f"not one of ours: {error}", attempts=0,
            key=record.key, value=record.value, headers=headers, shortened=False,
        )  # fmt: skip
    return StoredLetter(
        id=LetterId(record.partition, record.offset),
        at_ms=record.timestamp,
        letter=letter,
        value_bytes=len(record.value or b""),
        state=state,
    )
