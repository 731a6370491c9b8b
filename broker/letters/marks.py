"""Marks that say what became of dead letters: records of a topic beside theirs, since those of a topic never change.

A letter may be replayed by two people at once, or by one who is cut off. So it is claimed first: of several claims the
one that stands first in the log counts, for everybody alike, until it is `CLAIM_MS` old. Then another may claim the
letter. A mark names when its letter was written, for a topic that is made anew begins to count anew.

Marks are kept for twice as long as letters are, hence none is needed any more when it goes.
"""

from typing import Final

import msgspec

from broker.kafka_types import Record
from broker.letters.letter import LetterId, LetterState, StoredLetter

CLAIM_MS: Final = 60_000
"""Far longer than a chunk of letters takes to be sent, or to fail."""


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
        self._known: dict[LetterId, tuple[Mark, int]] = {}
        """By letter the mark that counts, and when it was written."""

    def read(self, record: Record) -> None:
        """Take the next mark; what is none is passed over."""
        try:
            letter, mark = LetterId.parse((record.key or b"").decode()), _decoder.decode(record.value or b"")
        except ValueError:  # msgspec's errors are some, too
            return
        known = self._known.get(letter)
        if known is not None and known[0].at_ms == mark.at_ms:
            before, since_ms = known
            claimed = before.state is LetterState.CLAIMED and record.timestamp - since_ms < CLAIM_MS
            if before.state.is_final or (claimed and mark.state is LetterState.CLAIMED):
                return
        self._known[letter] = mark, record.timestamp

    def state(self, letter: StoredLetter) -> LetterState:
        """What became of a letter."""
        mark, _ = self._known.get(letter.id, (None, 0))
        return LetterState.OPEN if mark is None or mark.at_ms != letter.at_ms else mark.state

    def is_claimed_by(self, letter: StoredLetter, by: str) -> bool:
        """Whether the claim of this name is the one that counts."""
        mark, _ = self._known.get(letter.id, (None, 0))
        return mark is not None and mark.state is LetterState.CLAIMED and mark.by == by and mark.at_ms == letter.at_ms
