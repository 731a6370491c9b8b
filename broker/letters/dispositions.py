"""Marks with the states of dead letters: records of a second topic, since a record itself never changes.

Two people may replay a letter at once, or a replay may be cut off. A letter is therefore claimed first. Of several
claims, the one that comes first in the log is valid for everybody, until it is `CLAIM_MS` old. Then another replay may
claim the letter. A mark holds the time of its letter, since a topic that is made again starts at the same offsets.

Marks are kept twice as long as letters, so no mark is deleted while it is needed. There may be millions of marks; a
final state takes nine bytes of memory, and open claims are few.
"""

from array import array
from typing import Final

import msgspec

from broker.kafka_types import Record
from broker.letters.letter import LetterId, LetterState, StoredLetter

CLAIM_MS: Final = 60_000
"""Much longer than a chunk of letters takes to be sent, or to fail."""
_BLOCK: Final = 256
_STATES: Final = tuple(LetterState)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """State of a letter, as written by one process."""

    state: LetterState
    at_ms: int
    """Time at which the letter was written, in milliseconds."""
    by: str = ""
    """Name of the process that claims the letter, at random."""


_decoder: Final = msgspec.json.Decoder(Mark)


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
