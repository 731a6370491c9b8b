"""Large queries that wait, each in pieces, and the share of the slots that they have: pure.

A query is large if it takes longer than a piece may (`LatencyModel.piece_inputs`). Its pieces are computed one after
the other, in several slots where they are free, and other work between them.

Rules.
* Other online work goes before pieces, but for a share: while both wait, pieces have a quarter of the slots' time. So a
  large query makes a small one wait for one piece, and is not starved by small ones.
* Between tenants pieces go by turns, counted in inputs: a tenant with twenty large queries gets as much as one with
  one.
* Of one tenant's queries the earliest deadline goes first. One without a deadline counts as due `PATIENCE_S` after it
  came, so that later ones with deadlines do not starve it.
"""

from bisect import insort
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar

from schemas.latency import PIECES_SHARE

PATIENCE_S: Final = 10.0
_MOST_OWED_S: Final = 1.0


class Piece(Protocol):
    """Part of a large query that is computed at once."""

    @property
    def inputs(self) -> int:
        """Number of inputs, at least 1."""
        ...

    @property
    def deadline_s(self) -> float:
        """Deadline in seconds of a monotonic clock, or infinity."""
        ...

    @property
    def allow_late(self) -> bool:
        """Whether it is worth computing after its deadline."""
        ...


P = TypeVar("P", bound=Piece)


class _Entry(Generic[P]):
    """Pieces of one query that wait."""

    __slots__ = ("key", "pieces")

    def __init__(self, key: tuple[float, int], pieces: deque[P]) -> None:
        self.key = key
        """When it is due, and its arrival."""
        self.pieces = pieces


_key = attrgetter("key")


class LargeQueries(Generic[P]):
    """Large queries of one mode, online or offline."""

    def __init__(self) -> None:
        self.inputs = 0
        """Inputs that wait."""
        self._tenants: dict[str, list[_Entry[P]]] = {}
        self._served: dict[str, int] = {}
        """Inputs that each tenant was served of those that wait, counted from the least served one when it came."""

    def add(self, tenant: str, pieces: Sequence[P], arrival: int, now_s: float) -> None:
        """Let the pieces of one query wait."""
        if tenant not in self._tenants:
            self._served[tenant] = min(self._served.values(), default=0)
        due_s = min(pieces[0].deadline_s, now_s + PATIENCE_S)
        insort(self._tenants.setdefault(tenant, []), _Entry((due_s, arrival), deque(pieces)), key=_key)
        self.inputs += sum(piece.inputs for piece in pieces)

    @property
    def queries(self) -> int:
        """Number of queries of which pieces wait."""
        return sum(map(len, self._tenants.values()))

    def next_key(self) -> tuple[float, int] | None:
        """When the query is due whose piece is next, and its arrival; None if none waits."""
        return self._tenants[self._next_tenant()][0].key if self._tenants else None

    def take(self) -> P:
        """Take the next piece; there must be one."""
        tenant = self._next_tenant()
        pieces = self._tenants[tenant][0].pieces
        piece = pieces.popleft()
        self.inputs -= piece.inputs
        self._served[tenant] += piece.inputs
        if not pieces:
            self._drop(tenant, self._tenants[tenant][:1])
        return piece

    def expire(self, now_s: float) -> list[P]:
        """Take one piece of each query whose deadline has passed, and forget the others."""
        expired: list[P] = []
        for tenant, entries in list(self._tenants.items()):
            if entries[0].key[0] <= now_s:
                past = [e for e in entries if e.pieces[0].deadline_s <= now_s and not e.pieces[0].allow_late]
                expired += [entry.pieces[0] for entry in past]
                self._drop(tenant, past)
        return expired

    def discard(self, unwanted: Collection[int]) -> None:
        """Forget pieces, given by their `id`."""
        for tenant, entries in list(self._tenants.items()):
            for entry in entries:
                kept = deque(piece for piece in entry.pieces if id(piece) not in unwanted)
                self.inputs -= _inputs(entry.pieces) - _inputs(kept)
                entry.pieces = kept
            self._drop(tenant, [entry for entry in entries if not entry.pieces])

    def __iter__(self) -> Iterator[P]:
        """All pieces that wait, in no particular order."""
        return (piece for entries in self._tenants.values() for entry in entries for piece in entry.pieces)

    def _next_tenant(self) -> str:
        return min(self._tenants, key=lambda tenant: (self._served[tenant], self._tenants[tenant][0].key))

    def _drop(self, tenant: str, gone: Sequence[_Entry[P]]) -> None:
        self.inputs -= sum(_inputs(entry.pieces) for entry in gone)
        kept = [entry for entry in self._tenants[tenant] if entry not in gone] if gone else self._tenants[tenant]
        if kept:
            self._tenants[tenant] = kept
        else:
            del self._tenants[tenant], self._served[tenant]


class PieceTurn:
    """The turns of pieces among other online work, of all instances of a worker."""

    def __init__(self) -> None:
        self.waiting = 0
        """Large online queries that wait."""
        self._owed_s = 0.0
        """Slot seconds that pieces are behind their share, if positive."""

    @property
    def is_due(self) -> bool:
        """Whether a piece goes before other online work: pieces have had less than their share."""
        return self._owed_s > 0.0

    def passed_over(self, seconds: float) -> None:
        """Count a batch of other online work, of so many slot seconds, that went before a piece."""
        self._owed_s = min(self._owed_s + seconds * PIECES_SHARE / (1.0 - PIECES_SHARE), _MOST_OWED_S)

    def taken(self, seconds: float) -> None:
        """Count a piece that went before other online work."""
        self._owed_s -= seconds

    def left(self) -> None:
        """Count a large query as one that waits no longer; where it was the last, nothing is owed."""
        self.waiting -= 1
        if not self.waiting:
            self._owed_s = 0.0


def _inputs(pieces: Collection[Piece]) -> int:
    return sum(piece.inputs for piece in pieces)
