"""What a client needs of the answer. Absent means: do not care."""

from enum import StrEnum

import msgspec


class Mode(StrEnum):
    """Online queries have a person or a program waiting; offline ones run in idle time."""

    ONLINE = "online"
    OFFLINE = "offline"


class Needs(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The limits of one query, in the units of the headers of the same names."""

    latency_ms: float | None = None
    """Most milliseconds from the client's send to the result."""
    min_accuracy: float | None = None
    """Least accuracy, 0..1, as measured on the task's validation set."""
    max_cost: float | None = None
    """Most USD per 1000 queries of this size."""
    mode: Mode = Mode.ONLINE
    target: str | None = None
    """An architecture, a version of it as `architecture@2`, or a variant instead of any of the task."""
    allow_late: bool = False
    """Whether a late answer is better than `overloaded`."""
    explain: bool = False
    """Whether the result is to say why its variant was chosen."""
