"""What was asked under known ids, and what came of each: the books that a campaign is judged by. Pure.

An id is *open* from when its client sent it to when it is told something: an answer, an error, or that it was not
taken. What stays open is lost, unless its dead letter says why. An id that is told something twice was shown twice.
"""

from collections import Counter
from typing import Final

from bench.chaos.closed_ids import ClosedIds

OK: Final = "ok"
NO_ANSWER: Final = "no answer"
"""What a client says of a query for which it waited in vain."""


class Ledger:
    """Books of one campaign, for any number of clients; times are monotonic seconds."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        """By client, how many ids ended how."""
        self.shown_twice: list[str] = []
        self.repeated = 0
        """Results that were written again for an id, where a client reads the log itself: at least once allows it."""
        self._open: dict[str, tuple[str, float]] = {}
        self._closed = ClosedIds()
        self._buried: dict[str, str] = {}
        self._answers: dict[str, list[tuple[float, float]]] = {}

    @property
    def asked(self) -> int:
        """Number of ids that were asked."""
        return len(self._open) + len(self._closed)

    def ask(self, client: str, query_id: str, at: float) -> None:
        """Note that a client has sent a query."""
        self._open[query_id] = (client, at)

    def close(self, query_id: str, outcome: str, at: float, *, repeats: bool = False) -> None:
        """Note what a client was told of a query; `repeats`: it reads the log itself, where a result may be twice."""
        opened = self._open.pop(query_id, None)
        if opened is None:
            if query_id not in self._closed:
                return  # of another campaign
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
        """Note the dead letter of a query: the outcome of one that nobody answers."""
        if query_id in self._open:
            self._buried[query_id] = reason

    def is_known(self, query_id: str) -> bool:
        """Whether the query was asked in this campaign."""
        return query_id in self._open or query_id in self._closed

    def open_before(self, at: float) -> list[str]:
        """Ids asked before `at` of which nothing is known yet."""
        return [
            query_id for query_id, (_, asked_at) in self._open.items() if asked_at < at and query_id not in self._buried
        ]

    def lost(self) -> int:
        """Ids of which nothing is known, and those whose client has waited in vain."""
        return len(self._open.keys() - self._buried.keys()) + self.in_vain

    @property
    def in_vain(self) -> int:
        """Number of ids whose client has waited in vain."""
        return sum(counts[NO_ANSWER] for counts in self.outcomes.values())

    @property
    def dead_letters(self) -> dict[str, str]:
        """Why those were given up that nobody answered, by id."""
        return {query_id: self._buried[query_id] for query_id in self._open.keys() & self._buried.keys()}

    def first_answer(self, client: str, since: float) -> float | None:
        """When the first query that a client asked after `since` was answered; None if none was."""
        return min((end for begin, end in self._answers.get(client, ()) if begin >= since), default=None)

    def forget_answers(self, before: float) -> None:
        """Drop the times of answers to what was asked before: the books of a long campaign would grow with it."""
        for client, times in self._answers.items():
            self._answers[client] = [(begin, end) for begin, end in times if begin >= before]
