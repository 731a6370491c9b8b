"""Large queries that wait in pieces, and their share of the slots' time. Pure.

A query is large if it takes longer than a piece may (`LatencyModel.piece_inputs`). Its pieces are computed one after
the other, or in several slots if they are free, with other work in between.

Rules.
* Other online work goes before pieces, but while both wait, pieces get a quarter of the slots' time. So a large query
  delays a small one by one piece only, and small queries do not starve it.
* Tenants take turns, counted in inputs: a tenant with twenty large queries gets as much time as a tenant with one.
* Among the queries of a tenant, the earliest deadline goes first. A query without a deadline counts as due `PATIENCE_S`
  after its arrival, so that later queries with deadlines do not starve it.
"""

from bisect import insort
from collections import deque
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar

from schemas.latency import PIECES_SHARE

PATIENCE_S: Final = 10.0
_MOST_OWED_S: Final = 1.0


class QueuedWork(Protocol):
    """Inputs of one query that wait together, at most the inputs of one batch: a whole query, or a piece of one."""

    inputs: int
    """Number of inputs, at least 1."""
    shape: Hashable
    """Key that is equal for work that can share a batch."""
    extra_s: float
    """Seconds that each input takes beyond the latency model's prediction, due to its length; may be negative."""
    deadline_s: float
    """Deadline in seconds of a monotonic clock, or `NO_DEADLINE`."""
    offline: bool
    """True if it is computed in idle time only."""
    allow_late: bool
    """True if it is computed even after its deadline."""


W = TypeVar("W", bound=QueuedWork)


@dataclass(slots=True, eq=False)
class _Entry(Generic[W]):
    """Waiting pieces of one query."""

    key: tuple[float, int]
    """Due time, and arrival number."""
    pieces: deque[W]


_key = attrgetter("key")


class LargeQueries(Generic[W]):
    """Large queries of one mode, online or offline."""

    def __init__(self) -> None:
        self.inputs = 0
        """Inputs that wait."""
        self._tenants: dict[str, list[_Entry[W]]] = {}
        self._served: dict[str, int] = {}
        """Inputs served to each waiting tenant; a new tenant starts at the count of the least served one."""

    def add(self, tenant: str, pieces: Sequence[W], arrival: int, now_s: float) -> None:
        """Add the pieces of one query."""
        if tenant not in self._tenants:
            self._served[tenant] = min(self._served.values(), default=0)
        due_s = min(pieces[0].deadline_s, now_s + PATIENCE_S)
        insort(self._tenants.setdefault(tenant, []), _Entry((due_s, arrival), deque(pieces)), key=_key)
        self.inputs += sum(piece.inputs for piece in pieces)

    @property
    def queries(self) -> int:
        """Number of queries with waiting pieces."""
        return sum(map(len, self._tenants.values()))

    def next_key(self) -> tuple[float, int] | None:
        """Return the due time and arrival number of the query whose piece is next, or None if none waits."""
        return self._tenants[self._next_tenant()][0].key if self._tenants else None

    def take(self) -> W:
        """Remove and return the next piece; there must be one."""
        tenant = self._next_tenant()
        pieces = self._tenants[tenant][0].pieces
        piece = pieces.popleft()
        self.inputs -= piece.inputs
        self._served[tenant] += piece.inputs
        if not pieces:
            self._drop(tenant, self._tenants[tenant][:1])
        return piece

    def expire(self, now_s: float) -> list[W]:
        """Remove each query whose deadline has passed. Returns one piece of each."""
        expired: list[W] = []
        for tenant, entries in list(self._tenants.items()):
            if entries[0].key[0] <= now_s:
                past = [e for e in entries if e.pieces[0].deadline_s <= now_s and not e.pieces[0].allow_late]
                expired += [entry.pieces[0] for entry in past]
                self._drop(tenant, past)
        return expired

    def discard(self, unwanted: Collection[int]) -> None:
        """Remove pieces, given by their `id()`."""
        for tenant, entries in list(self._tenants.items()):
            for entry in entries:
                kept = deque(piece for piece in entry.pieces if id(piece) not in unwanted)
                self.inputs -= _inputs(entry.pieces) - _inputs(kept)
                entry.pieces = kept
            self._drop(tenant, [entry for entry in entries if not entry.pieces])

    def __iter__(self) -> Iterator[W]:
        """Yield all waiting pieces, in no particular order."""
        return (piece for entries in self._tenants.values() for entry in entries for piece in entry.pieces)

    def _next_tenant(self) -> str:
        return min(self._tenants, key=lambda tenant: (self._served[tenant], self._tenants[tenant][0].key))

    def _drop(self, tenant: str, gone: Sequence[_Entry[W]]) -> None:
        self.inputs -= sum(_inputs(entry.pieces) for entry in gone)
        kept = [entry for entry in self._tenants[tenant] if entry not in gone] if gone else self._tenants[tenant]
        if kept:
            self._tenants[tenant] = kept
        else:
            del self._tenants[tenant], self._served[tenant]


class PieceTurn:
    """Turns of pieces among other online work, shared by all instances of a worker."""

    def __init__(self) -> None:
        self.waiting = 0
        """Number of large online queries that wait."""
        self._owed_s = 0.0
        """Slot seconds that pieces are behind their share, if positive."""

    @property
    def is_due(self) -> bool:
        """True if a piece goes before other online work, because pieces have had less than their share."""
        return self._owed_s > 0.0

    def passed_over(self, seconds: float) -> None:
        """Count a batch of other online work, of `seconds` slot seconds, that was computed before a waiting piece."""
        self._owed_s = min(self._owed_s + seconds * PIECES_SHARE / (1.0 - PIECES_SHARE), _MOST_OWED_S)

    def taken(self, seconds: float) -> None:
        """Count a piece that was computed before other online work."""
        self._owed_s -= seconds

    def left(self) -> None:
        """Count a large query that no longer waits; without any, the balance is reset."""
        self.waiting -= 1
        if not self.waiting:
            self._owed_s = 0.0


def _inputs(pieces: Collection[QueuedWork]) -> int:
    return sum(piece.inputs for piece in pieces)
