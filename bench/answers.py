"""What a client saw of a crash: how long there was no answer, and how many answers came again."""

from collections.abc import Iterable
from itertools import pairwise

from prometheus_client import REGISTRY


def silence_s(answered_s: Iterable[float], killed_s: float, near_s: float) -> float:
    """The longest time without an answer within `near_s` seconds after the kill; all in seconds of one clock."""
    near = sorted(at for at in answered_s if killed_s <= at <= killed_s + near_s) or [killed_s + near_s]
    return max(later - earlier for earlier, later in pairwise([killed_s, *near]))


def repeated() -> int:
    """Second results that the client library of this process has dropped so far."""
    return int(REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": "duplicate"}) or 0)
