"""Needs of a query: the client's limits on latency, accuracy and cost. An absent need sets no limit."""

from enum import StrEnum

import msgspec


class Mode(StrEnum):
    """Online queries are answered as soon as possible; offline queries are computed when workers are idle."""

    ONLINE = "online"
    OFFLINE = "offline"


class Needs(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Limits of one query, in the units of the headers of the same names."""

    latency_ms: float | None = None
    """Maximum milliseconds from the client's send to the result."""
    min_accuracy: float | None = None
    """Minimum accuracy, 0..1, as measured on the task's validation set."""
    max_cost: float | None = None
    """Maximum USD per 1000 queries of this size."""
    mode: Mode = Mode.ONLINE
    target: str | None = None
    """Architecture, version of an architecture (`architecture@2`) or variant; None: any of the task."""
    allow_late: bool = False
    """True if a late answer is better than the error `overloaded`."""
    explain: bool = False
    """True if the result shall explain the choice of the variant."""
