"""What was asked and what was answered, by needs class (JSON). Counted once a query.

Selectors publish what they were asked once a second: counts are of the second that ends at `at_ms`. Workers say in each
status what they answered since the one before. None is cumulative: who restarts says nothing false.
"""

import msgspec


class LoadClass(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Queries of one task that ask for about the same."""

    task: str
    target: str | None = None
    """The architecture or variant named instead of any."""
    min_accuracy: float = 0.0
    """Rounded down to 0.0001; 0 where none is asked."""
    latency_ms: float | None = None
    """Lower edge of a bucket, of which there are two an octave; None: no deadline."""
    offline: bool = False


class ClassCount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What came of one class in a second. Queries that no registered variant could ever answer are not counted."""

    load_class: LoadClass
    queries: int = 0
    inputs: int = 0
    refused: int = 0
    """Of `queries`, those answered `overloaded` at once."""
    upgraded: int = 0
    """Of `queries`, those given to a more accurate variant than they are charged for."""


class ClassAnswers(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a worker answered of one class since its status before."""

    load_class: LoadClass
    queries: int = 0
    late: int = 0
    """Of `queries`, those computed, but after their deadline."""
    failed: int = 0
    """Of `queries`, those answered with an error."""


class SelectorLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What one selector did in the second before `at_ms`; published also when it was idle."""

    selector: str
    at_ms: float
    """Wall clock of the selector, ms since the epoch."""
    classes: tuple[ClassCount, ...] = ()
    variants: dict[str, int] = {}
    """Inputs sent on, by variant."""
