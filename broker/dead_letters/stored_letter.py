"""Dead letter as it is stored in its topic, a filter for letters, and the marks that hold the states of letters. Pure.

Marks are records of a second topic, since a record itself never changes. Two people may replay a letter at once, or a
replay may be cut off. A letter is therefore claimed first. Of several claims, the one that comes first in the log is
valid for everybody, until it is `CLAIM_MS` old. Then another replay may claim the letter. A mark holds the time of its
letter, since a topic that is made again starts at the same offsets.

Marks are kept twice as long as letters, so no mark is deleted while it is needed. There may be millions of marks; a
final state takes nine bytes of memory, and open claims are few.
"""

from array import array
from collections.abc import Collection
from enum import StrEnum
from typing import Final, NamedTuple, Self

import msgspec
from msgspec.structs import replace

from broker.dead_letters.letter import DeadLetter, parse_letter
from broker.kafka.types import Record
from schemas import headers as h
from schemas.topics import TASKS, task_of

CLAIM_MS: Final = 60_000
"""Much longer than a chunk of letters takes to be sent, or to fail."""
_BLOCK: Final = 256
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


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """State of a letter, as written by one process."""

    state: LetterState
    at_ms: int
    """Time at which the letter was written, in milliseconds."""
    by: str = ""
    """Name of the process that claims the letter, at random."""


_decoder: Final = msgspec.json.Decoder(Mark)
_STATES: Final = tuple(LetterState)


class Dispositions:
    """All marks, read in the order of the log."""

    def __init__(self) -> None:
        self._claims: dict[LetterId, tuple[Mark, int]] = {}
        """Valid claim of each letter, and the time at which it was written."""
        self._final = _FinalMarks()

    def read(self, record: Record) -> None:
        """Apply the next mark; a record that is no mark is ignored."""
        try:
            letter, mark = LetterId.parse((record.key or b"").decode()), _decoder.decode(record.value or b"")
        except ValueError:  # msgspec's errors are subclasses
            return
        if self._final.state(letter, mark.at_ms) is not None:
            return
        if mark.state.is_final:
            if self._final.put(letter, mark):
                self._claims.pop(letter, None)
            return
        if mark.state is not LetterState.CLAIMED:
            return
        before, since_ms = self._claims.get(letter, (None, 0))
        if before is None or before.at_ms != mark.at_ms or record.timestamp - since_ms >= CLAIM_MS:
            self._claims[letter] = mark, record.timestamp

    def state(self, letter: StoredLetter) -> LetterState:
        """Return the state of a letter."""
        mark, _ = self._claims.get(letter.id, (None, 0))
        claimed = mark is not None and mark.at_ms == letter.at_ms
        return self._final.state(letter.id, letter.at_ms) or (LetterState.CLAIMED if claimed else LetterState.OPEN)

    def is_claimed_by(self, letter: StoredLetter, by: str) -> bool:
        """Return true if the valid claim has this name."""
        mark, _ = self._claims.get(letter.id, (None, 0))
        return mark is not None and mark.by == by and mark.at_ms == letter.at_ms


class _FinalMarks:
    """Final states of letters, by blocks of neighbours."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], tuple[array[int], bytearray]] = {}
        """Times of letters, and one more than the number of each state, by partition and number of the block."""

    def put(self, letter: LetterId, mark: Mark) -> bool:
        """Store a mark; False if its time is out of range."""
        number, index = divmod(letter.offset, _BLOCK)
        block = self._blocks.get((letter.partition, number))
        if block is None:
            block = array("q", bytes(8 * _BLOCK)), bytearray(_BLOCK)
        times, states = block
        try:
            times[index] = mark.at_ms
        except OverflowError:
            return False
        states[index] = _STATES.index(mark.state) + 1
        self._blocks[letter.partition, number] = block
        return True

    def state(self, letter: LetterId, at_ms: int) -> LetterState | None:
        """Return the final state of the letter with this position and time; None if it has none."""
        number, index = divmod(letter.offset, _BLOCK)
        block = self._blocks.get((letter.partition, number))
        if block is None or not block[1][index] or block[0][index] != at_ms:
            return None
        return _STATES[block[1][index] - 1]
