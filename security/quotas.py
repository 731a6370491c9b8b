"""Quotas of keys and tokens: pure, the time comes in.

A token bucket each for the rate: as many may come at once as are allowed in a second, and at least one. What a query
holds beyond one input, and a request beyond one job, is charged afterwards, and may leave a debt: so no batch is too
large for a quota, and on average it is kept. Beside it, a count of what waits for an answer.

One process knows what it was asked itself, and nothing of others. How many principals are told apart is bounded: of
more, those that have asked for nothing for longest are forgotten, and begin anew.
"""

from collections import OrderedDict
from math import ceil
from typing import Final

from schemas.errors import QuotaExceeded
from schemas.principal import Principal, Quota, QuotaUse

_MOST: Final = 10_000
_WINDOWS_S: Final = (1, 60, 3600)
_CONCURRENCY_RETRY_S: Final = 1.0
"""Nobody knows when a query that waits will be answered."""


class QuotaMeter:
    """What one principal has used of its quota."""

    __slots__ = ("_at", "_quota", "_tokens", "in_flight")

    def __init__(self, quota: Quota, now: float) -> None:
        self._quota = quota
        self._tokens = _burst(quota)
        self._at = now
        self.in_flight = 0

    def enter(self, quota: Quota, now: float) -> None:
        """Begin one more query.

        Raises:
            QuotaExceeded: it is one too many; it says what is left, and when there is more.
        """
        self._quota = quota
        if quota.concurrent is not None and self.in_flight >= quota.concurrent:
            raise _too_many(quota.concurrent)
        if quota.per_second is not None:
            self._refill(quota.per_second, now)
            if self._tokens < 1:
                raise _too_fast(quota.per_second, (1 - self._tokens) / quota.per_second)
            self._tokens -= 1
        self.in_flight += 1

    def charge(self, more: int) -> None:
        """Count what the query turned out to ask beyond one."""
        self._tokens -= more

    def leave(self) -> None:
        """End a query."""
        self.in_flight -= 1

    def _refill(self, per_second: float, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * per_second, _burst(self._quota))
        self._at = now


class QuotaMeters:
    """Meters of all principals of a process that have a quota."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._meters: OrderedDict[str, QuotaMeter] = OrderedDict()
        """By principal, the one that asked last at the end."""

    def enter(self, principal: Principal, now: float) -> QuotaMeter | None:
        """Begin a query of a principal; returns the meter to leave once it has ended, if they have a quota.

        Raises:
            QuotaExceeded: they have used it up.
        """
        quota = principal.quota
        if quota is None:
            return None
        meter = self._meters.get(principal.name)
        if meter is None:
            meter = self._meters[principal.name] = QuotaMeter(quota, now)
            self._forget()
        else:
            self._meters.move_to_end(principal.name)
        meter.enter(quota, now)
        return meter

    def __len__(self) -> int:
        return len(self._meters)

    def _forget(self) -> None:
        while len(self._meters) > self._most:
            self._meters.popitem(last=False)


def _burst(quota: Quota) -> float:
    return max(quota.per_second or 0.0, 1.0)


def _too_fast(per_second: float, wait_s: float) -> QuotaExceeded:
    most, window_s = _policy(per_second)
    asked = f"{most} queries each {'second' if window_s == 1 else f'{window_s} seconds'}"
    return _exceeded(
        f"this key may ask {asked}: try again in {wait_s:.3g} s", QuotaUse("rate", most, window_s, 0, wait_s)
    )


def _too_many(concurrent: int) -> QuotaExceeded:
    use = QuotaUse("concurrency", concurrent, None, 0, _CONCURRENCY_RETRY_S)
    return _exceeded(f"this key may have {concurrent} queries wait at once: try again once one is answered", use)


def _exceeded(message: str, use: QuotaUse) -> QuotaExceeded:
    error = QuotaExceeded(message, retry_after_s=use.reset_s)
    error.use = use
    return error


def _policy(per_second: float) -> tuple[int, int]:
    """The rate as whole queries in whole seconds."""
    for window_s in _WINDOWS_S:
        most = per_second * window_s
        if most >= 1 and most == round(most):
            return round(most), window_s
    window_s = _WINDOWS_S[-1]
    if per_second * window_s >= 1:
        return int(per_second * window_s), window_s
    return 1, ceil(1 / per_second)
