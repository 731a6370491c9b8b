"""Replacement of `prometheus_client` in the client library. It counts nothing, since no one collects the metrics."""

from collections.abc import Callable, Sequence
from typing import Self


class _Uncounted:
    def __init__(self, name: str, documentation: str, labelnames: Sequence[str] = ()) -> None:
        pass

    def labels(self, *values: str) -> Self:
        """Return this object for all label values."""
        return self

    def inc(self, amount: float = 1) -> None:
        """Do nothing."""

    def set_function(self, f: Callable[[], float]) -> None:
        """Do nothing."""


class Counter(_Uncounted):
    """Counter without a value."""


class Gauge(_Uncounted):
    """Gauge without a value."""
