"""Ledger of a campaign: the ids of its queries, and their outcomes. Pure.

An id is *open* from its send until its client gets an answer, an error, or a rejection. An id that stays open is lost,
unless a dead letter explains it. An id whose client gets two outcomes was shown twice.
"""

from collections import Counter
from typing import Final

OK: Final = "ok"
NO_ANSWER: Final = "no answer"
"""Outcome of a query whose client waited in vain."""
_MOST: Final = 10_000_000
"""Numbers from here on do not count as a client's numbering."""


class Ledger:
    """Ledger of one campaign, for any number of clients; times are monotonic seconds."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        """Number of ids, by client and outcome."""
        self.shown_twice: list[str] = []
        self.repeated = 0
        """Results written again for an id, seen by clients that read the log; at-least-once delivery allows them."""
        self._open: dict[str, tuple[str, float]] = {}
        self._closed = ClosedIds()
        self._buried: dict[str, str] = {}
        self._answers: dict[str, list[tuple[float, float]]] = {}

    @property
    def asked(self) -> int:
        """Number of ids so far."""
        return len(self._open) + len(self._closed)

    def ask(self, client: str, query_id: str, at: float) -> None:
        """Record that a client has sent a query."""
        self._open[query_id] = (client, at)

    def close(self, query_id: str, outcome: str, at: float, *, repeats: bool = False) -> None:
        """Record the outcome of a query; `repeats`: the client reads the log, where a result may occur twice."""
        opened = self._open.pop(query_id, None)
        if opened is None:
            if query_id not in self._closed:
                return  # it belongs to another campaign
            if repeats:
                self.repeated += 1
            else:
                self.shown_twice.append(query_id)
            return
        client, asked_at = opened
        self._closed.add(query_id)
        self.outcomes.setdefault(client, Counter())[outcome] += 1
        if outcome == OK:
            self._answers.setdefault(client, []).append((asked_at, at))

    def bury(self, query_id: str, reason: str) -> None:
        """Record the dead letter of a query; it counts only while the query is open."""
        if query_id in self._open:
            self._buried[query_id] = reason

    def is_known(self, query_id: str) -> bool:
        """Return true if the query belongs to this campaign."""
        return query_id in self._open or query_id in self._closed

    def open_before(self, at: float) -> list[str]:
        """Return the ids sent before `at` that have neither an outcome nor a dead letter."""
        return [
            query_id for query_id, (_, asked_at) in self._open.items() if asked_at < at and query_id not in self._buried
        ]

    def lost(self) -> int:
        """Return the number of ids without an outcome or dead letter, plus those whose client waited in vain."""
        return len(self._open.keys() - self._buried.keys()) + self.in_vain

    @property
    def in_vain(self) -> int:
        """Number of ids whose client waited in vain."""
        return sum(counts[NO_ANSWER] for counts in self.outcomes.values())

    @property
    def dead_letters(self) -> dict[str, str]:
        """Reasons of the dead letters of ids without an outcome, by id."""
        return {query_id: self._buried[query_id] for query_id in self._open.keys() & self._buried.keys()}

    def first_answer(self, client: str, since: float) -> float | None:
        """Return the time of the first answer to a client's query sent after `since`; None if there is none."""
        return min((end for begin, end in self._answers.get(client, ()) if begin >= since), default=None)

    def forget_answers(self, before: float) -> None:
        """Drop the answer times of queries sent before, so that the ledger of a long campaign does not grow."""
        for client, times in self._answers.items():
            self._answers[client] = [(begin, end) for begin, end in times if begin >= before]


class ClosedIds:
    """Set of ids that only grows."""

    def __init__(self) -> None:
        self._numbered: dict[str, bytearray] = {}
        self._others: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """Bytes that the numbered ids take."""
        return sum(map(len, self._numbered.values()))

    def __contains__(self, query_id: str) -> bool:
        name, number = _split(query_id)
        if number < 0:
            return query_id in self._others
        seen = self._numbered.get(name, b"")
        return number < len(seen) and bool(seen[number])

    def add(self, query_id: str) -> None:
        """Add an id; no-op if it is present."""
        if query_id in self:
            return
        self._count += 1
        name, number = _split(query_id)
        if number < 0:
            self._others.add(query_id)
            return
        seen = self._numbered.setdefault(name, bytearray())
        seen.extend(bytes(max(number + 1 - len(seen), 0)))
        seen[number] = 1


def _split(query_id: str) -> tuple[str, int]:
    """Return the name and the number of an id; the number is negative if it has none."""
    name, _, digits = query_id.rpartition("-")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < len(str(_MOST)) else -1
    return (name, number) if str(number) == digits else ("", -1)
