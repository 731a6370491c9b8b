"""A dead letter as it lies in its topic, and the choice of some of them. Pure."""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple, Self

import msgspec
from msgspec.structs import replace

from broker.dead_letters import DeadLetter, parse_letter
from broker.kafka_types import Record
from schemas import headers as h
from schemas.topics import TASKS, task_of

CLOUD_EVENT_ID = "ce_id"
CLOUD_EVENT_REPLY_TO = "ce_replyto"


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

    def without_value(self) -> Self:
        """The same for a long list of them."""
        return replace(self, letter=replace(self.letter, value=None))


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; what is absent does not matter."""

    ids: Collection[LetterId] = ()
    task: str | None = None
    reason: str | None = None
    """Part of the reason, in capitals or not."""
    since_ms: float | None = None
    until_ms: float | None = None
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
