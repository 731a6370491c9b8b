"""Which reply topics nobody owns any more: those to which nothing was appended for a long time.

Their owners, gateways and clients, append a claim to them every few minutes, whether they are asked anything or not
(`broker/request_reply.py`), and delete them when they end. What is left belongs to owners that were killed. A topic
counts as abandoned only by what this watch has seen itself: time in which nobody could look says nothing, for then
owners could not claim either.

Pure: times are passed in, seconds of a monotonic clock.
"""

from collections.abc import Mapping


class ReplyTopicWatch:
    """Watch over reply topics.

    Args:
        age_s: for how long nothing must have been appended.
        gap_s: a longer time than this between two looks begins everything anew.
    """

    def __init__(self, age_s: float, gap_s: float) -> None:
        self._age_s = age_s
        self._gap_s = gap_s
        self._looked_s = -gap_s
        self._stood: dict[str, tuple[int, float]] = {}
        """By topic its end, and since when it has stood there."""

    def abandoned(self, ends: Mapping[str, int], now_s: float) -> list[str]:
        """Take in where all reply topics end; returns those that are abandoned."""
        before = self._stood if now_s - self._looked_s <= self._gap_s else {}
        self._looked_s = now_s
        self._stood = {
            topic: known if (known := before.get(topic)) is not None and known[0] == end else (end, now_s)
            for topic, end in ends.items()
        }
        return [topic for topic, (_end, since_s) in self._stood.items() if now_s - since_s >= self._age_s]
