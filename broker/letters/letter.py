"""Dead letter as it is stored in its topic, and a filter for letters. Pure."""

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
"""Largest number of bytes kept of such a header: no topic and no accepted id is longer."""


class LetterState(StrEnum):
    """State of a dead letter."""

    OPEN = "open"
    CLAIMED = "claimed"
    """A replay is about to send it, or was cut off while doing so."""
    REPLAYED = "replayed"
    ANSWERED = "answered"
    """It was not sent again, since its query has an answer."""
    DROPPED = "dropped"

    @property
    def is_final(self) -> bool:
        """True if nothing more is to be done about the letter."""
        return self in (LetterState.REPLAYED, LetterState.ANSWERED, LetterState.DROPPED)


class LetterId(NamedTuple):
    """Position of a dead letter in its topic; people write it as `0/17`, or `17`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the result of `str`.

        Raises:
            ValueError: the text has another form.
        """
        partition, slash, offset = text.rpartition("/")
        return cls(int(partition) if slash else 0, int(offset))


class LetterCursor(NamedTuple):
    """Position of a letter and the time at which it was written, after which a list continues: `0/17@1700000000000`."""

    id: LetterId
    at_ms: int

    def __str__(self) -> str:
        return f"{self.id}@{self.at_ms}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the result of `str`.

        Raises:
            ValueError: the text has another form.
        """
        place, _, at_ms = text.partition("@")
        return cls(LetterId.parse(place), int(at_ms))


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letter with its position and state."""

    id: LetterId
    at_ms: int
    """Time at which the record was given up, in milliseconds since the epoch by the broker's clock."""
    letter: DeadLetter
    value_bytes: int
    """Size of the value; `letter` holds the value only if it was requested."""
    state: LetterState = LetterState.OPEN

    @property
    def task(self) -> str:
        """Task of the query; empty if it is not known."""
        said = self.header(h.TASK)
        return said or (task_of(self.letter.topic) if self.letter.topic.startswith(TASKS) else "")

    @property
    def query(self) -> str:
        """Id of the query; empty if it has none."""
        return self.header(h.ID) or self.header(CLOUD_EVENT_ID)

    @property
    def is_signed(self) -> bool:
        """True if the record has a signature, valid or not."""
        return any(name == h.SIGNATURE for name, _ in self.letter.headers)

    def header(self, name: str) -> str:
        """Return the text of the record's own header of this name, invalid bytes replaced; empty if there is none.

        The last one of a repeated name counts, as for all readers of the record.
        """
        return next((v.decode(errors="replace") for key, v in reversed(self.letter.headers) if key == name), "")

    @property
    def cursor(self) -> LetterCursor:
        """Cursor at which a list continues after this letter."""
        return LetterCursor(self.id, self.at_ms)

    def outlined(self) -> Self:
        """Return an outline for long lists: only headers that identify the query, cut to the length of a name."""
        headers = [(name, value[:_MOST_NAMED]) for name, value in self.letter.headers if name in _NAMING]
        return replace(self, letter=replace(self.letter, key=None, value=None, headers=headers))


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter for dead letters; an absent value does not restrict it."""

    ids: Collection[LetterId] = ()
    task: str | None = None
    reason: str | None = None
    """Part of the reason, in upper or lower case."""
    since_ms: float | None = None
    until_ms: float | None = None
    after: LetterCursor | None = None
    """Accept only letters behind this position; the topic must have only one partition."""
    done: bool = False
    """True to accept letters, too, about which nothing more is to be done."""

    def takes(self, found: StoredLetter) -> bool:
        """Return true if the filter accepts a letter."""
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
    """Parse a record of the dead-letter topic. If it is no dead letter of ours, its reason says so."""
    try:
        letter = parse_letter(record)
    except ValueError as error:
        headers = [(name, value or b"") for name, value in record.headers]
        letter = DeadLetter(
            topic="", partition=-1, offset=-1, reason=f"not a dead letter of this system: {error}", attempts=0,
            key=record.key, value=record.value, headers=headers, shortened=False,
        )  # fmt: skip
    return StoredLetter(
        id=LetterId(record.partition, record.offset),
        at_ms=record.timestamp,
        letter=letter,
        value_bytes=len(record.value or b""),
        state=state,
    )
