"""Stands in for `prometheus_client` in the client library: counts nothing, for nobody collects it."""

from collections.abc import Callable, Sequence
from typing import Self


class _Uncounted:
    def __init__(self, name: str, documentation: str, labelnames: Sequence[str] = ()) -> None:
        pass

    def labels(self, *values: str) -> Self:
        """Return itself: it is the same for all."""
        return self

    def inc(self, amount: float = 1) -> None:
        """Do nothing."""

    def set_function(self, f: Callable[[], float]) -> None:
        """Do nothing."""


class Counter(_Uncounted):
    """A counter that does not count."""


class Gauge(_Uncounted):
    """A gauge that shows nothing."""
