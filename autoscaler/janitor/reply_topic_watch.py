"""Finds reply topics without an owner: topics to which nothing was appended for a long time.

Owners (gateways and clients) append a claim to their reply topic every few minutes (`broker/request_reply.py`), and
delete the topic when they end. Topics that remain belong to killed owners. A topic counts as abandoned only by what
this watch observed itself. Time without observations does not count, because owners may have been unable to claim, too.

Pure: the caller passes times in seconds of a monotonic clock.
"""

from collections.abc import Mapping


class ReplyTopicWatch:
    """Watch over the end offsets of reply topics.

    Args:
        age_s: least time without an append until a topic is abandoned.
        gap_s: longest time between two observations; after a longer one all observations start again.
    """

    def __init__(self, age_s: float, gap_s: float) -> None:
        self._age_s = age_s
        self._gap_s = gap_s
        self._looked_s = -gap_s
        self._stood: dict[str, tuple[int, float]] = {}
        """End offset by topic, and the time since which it is unchanged."""

    def abandoned(self, ends: Mapping[str, int], now_s: float) -> list[str]:
        """Record the end offsets of all reply topics; return the abandoned ones."""
        before = self._stood if now_s - self._looked_s <= self._gap_s else {}
        self._looked_s = now_s
        self._stood = {
            topic: known if (known := before.get(topic)) is not None and known[0] == end else (end, now_s)
            for topic, end in ends.items()
        }
        return [topic for topic, (_end, since_s) in self._stood.items() if now_s - since_s >= self._age_s]
