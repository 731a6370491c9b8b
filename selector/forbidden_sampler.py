"""Rate limit of dead letters for forbidden records, so that a client cannot fill the disk with them.

Dead letters are kept for weeks, because an operator may fix their cause and replay them. A forbidden record (a forged
name or signature, another tenant's topic) is a refusal, and its sender is answered if that is possible. Only a sample
is kept for inspection: the first ones, then one per interval, and only the beginning of a large one. All are counted
(`infaas_selector_decisions_total`, outcome `forbidden`).
"""

from typing import Final

MOST_AT_ONCE: Final = 100
EACH_S: Final = 10.0
"""Seconds until one more is kept: about 240,000 in four weeks."""
KEEP_BYTES: Final = 4096
"""Bytes kept of a larger record: it is inspected, never replayed."""


class ForbiddenSampler:
    """Token bucket for the forbidden records of a selector."""

    def __init__(self, now_s: float) -> None:
        self._left = float(MOST_AT_ONCE)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take a token; return true if the record is to be kept."""
        self._left = min(self._left + (now_s - self._at_s) / EACH_S, MOST_AT_ONCE)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
