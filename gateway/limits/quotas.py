"""Quotas of keys and tokens: pure, the caller passes the time.

The rate is kept by a token bucket per principal. Its capacity is one second's queries, and at least one. Inputs of a
query beyond the first, and jobs of a request beyond the first, are charged afterwards and may leave a debt. So no batch
is too large for a quota, and the average rate still holds. A second limit bounds the queries that wait for an answer at
once.

Each process counts only its own requests. The number of principals counted is bounded: beyond it, the meter that was
unused for longest is dropped, and its principal starts with a full bucket.
"""

from collections import OrderedDict
from math import ceil
from typing import Final

from schemas.access import Principal, Quota, QuotaUse
from schemas.errors import QuotaExceeded

_MOST: Final = 10_000
_WINDOWS_S: Final = (1, 60, 3600)
_CONCURRENCY_RETRY_S: Final = 1.0
"""Retry delay in the answer, because the time until a waiting query is answered is unknown."""


class QuotaMeter:
    """Use of one principal's quota."""

    __slots__ = ("_at", "_quota", "_tokens", "in_flight")

    def __init__(self, quota: Quota, now: float) -> None:
        self._quota = quota
        self._tokens = _burst(quota)
        self._at = now
        self.in_flight = 0

    def enter(self, quota: Quota, now: float) -> None:
        """Start one query.

        Raises:
            QuotaExceeded: the quota is used up; the error says what is left and when to retry.
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
        """Charge the inputs or jobs of a query beyond the first."""
        self._tokens -= more

    def leave(self) -> None:
        """End one query."""
        self.in_flight -= 1

    def _refill(self, per_second: float, now: float) -> None:
        self._tokens = min(self._tokens + (now - self._at) * per_second, _burst(self._quota))
        self._at = now


class QuotaMeters:
    """Meters of all principals of a process that have a quota."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._meters: OrderedDict[str, QuotaMeter] = OrderedDict()
        """Meters by principal; the most recently used comes last."""

    def enter(self, principal: Principal, now: float) -> QuotaMeter | None:
        """Start a query of a principal; return the meter to `leave` at its end, or None without a quota.

        Raises:
            QuotaExceeded: the quota is used up.
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
    asked = f"{most} queries per {'second' if window_s == 1 else f'{window_s} seconds'}"
    return _exceeded(
        f"rate limit of this key exceeded: {asked}; try again in {wait_s:.3g} s",
        QuotaUse("rate", most, window_s, 0, wait_s),
    )


def _too_many(concurrent: int) -> QuotaExceeded:
    use = QuotaUse("concurrency", concurrent, None, 0, _CONCURRENCY_RETRY_S)
    return _exceeded(f"concurrency limit of this key reached: {concurrent} queries; try again after an answer", use)


def _exceeded(message: str, use: QuotaUse) -> QuotaExceeded:
    error = QuotaExceeded(message, retry_after_s=use.reset_s)
    error.use = use
    return error


def _policy(per_second: float) -> tuple[int, int]:
    """Return the rate as whole queries per window in whole seconds."""
    for window_s in _WINDOWS_S:
        most = per_second * window_s
        if most >= 1 and most == round(most):
            return round(most), window_s
    window_s = _WINDOWS_S[-1]
    if per_second * window_s >= 1:
        return int(per_second * window_s), window_s
    return 1, ceil(1 / per_second)
