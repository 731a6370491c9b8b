"""How many of the records that are forbidden become dead letters: a sample, or whoever may write could fill the disk.

A dead letter is kept for weeks because somebody may put right what kept its query from an answer. What is forbidden is
a refusal, and whoever asked is told where that is possible: a forged name or signature, a topic that is another's. Some
are kept to be looked at, the first and then one each so often, the beginning of a large one. All are counted
(`infaas_selector_decisions_total`, outcome `forbidden`).
"""

from typing import Final

MOST_AT_ONCE: Final = 100
EACH_S: Final = 10.0
"""Seconds until one more is kept: some 240,000 in four weeks."""
KEEP_BYTES: Final = 4096
"""What is kept of a larger one: it is looked at, and not sent again."""


class EvidenceRoom:
    """Room for records that are forbidden, of all that a selector reads."""

    def __init__(self, now_s: float) -> None:
        self._left = float(MOST_AT_ONCE)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Whether one more is kept."""
        self._left = min(self._left + (now_s - self._at_s) / EACH_S, MOST_AT_ONCE)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
