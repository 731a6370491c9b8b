"""Marks that say what became of dead letters: records of a topic beside theirs, since those of a topic never change.

A letter may be replayed by two people at once, or by one who is cut off. So it is claimed first: of several claims the
one that stands first in the log counts, for everybody alike, until it is `CLAIM_MS` old. Then another may claim the
letter. A mark names when its letter was written, for a topic that is made anew begins to count anew.

Marks are kept for twice as long as letters are, hence none is needed any more when it goes. There may be millions, so
that of what is final nine bytes are held in memory; claims that are open are few.
"""

from array import array
from typing import Final

import msgspec

from broker.kafka_types import Record
from broker.letters.letter import LetterId, LetterState, StoredLetter

CLAIM_MS: Final = 60_000
"""Far longer than a chunk of letters takes to be sent, or to fail."""
_BLOCK: Final = 256
_STATES: Final = tuple(LetterState)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a letter."""

    state: LetterState
    at_ms: int
    """When the letter was written."""
    by: str = ""
    """Who claims it: a random name."""


_decoder: Final = msgspec.json.Decoder(Mark)


class Marks:
    """All marks, read in the order of the log."""

    def __init__(self) -> None:
        self._claims: dict[LetterId, tuple[Mark, int]] = {}
        """By letter the claim that counts, and when it was written."""
        self._final = _FinalMarks()

    def read(self, record: Record) -> None:
        """Take the next mark; what is none is passed over."""
        try:
            letter, mark = LetterId.parse((record.key or b"").decode()), _decoder.decode(record.value or b"")
        except ValueError:  # msgspec's errors are some, too
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
        """What became of a letter."""
        mark, _ = self._claims.get(letter.id, (None, 0))
        claimed = mark is not None and mark.at_ms == letter.at_ms
        return self._final.state(letter.id, letter.at_ms) or (LetterState.CLAIMED if claimed else LetterState.OPEN)

    def is_claimed_by(self, letter: StoredLetter, by: str) -> bool:
        """Whether the claim of this name is the one that counts."""
        mark, _ = self._claims.get(letter.id, (None, 0))
        return mark is not None and mark.by == by and mark.at_ms == letter.at_ms


class _FinalMarks:
    """What became of letters of which nothing more is to be done, by blocks of neighbours."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], tuple[array[int], bytearray]] = {}
        """By partition and number of the block, when each letter was written, and one more than its state's number."""

    def put(self, letter: LetterId, mark: Mark) -> bool:
        """Note a mark; False: it names a time or a place that cannot be."""
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
        """What became of the letter of this place and time; None: nothing final."""
        number, index = divmod(letter.offset, _BLOCK)
        block = self._blocks.get((letter.partition, number))
        if block is None or not block[1][index] or block[0][index] != at_ms:
            return None
        return _STATES[block[1][index] - 1]
