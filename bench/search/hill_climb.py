"""Search by mutation: the worst cases so far are changed at random, beside new random ones."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from random import Random
from typing import Final

from bench.search.case import SearchCase, draw_case, mutate, simpler
from bench.search.verdict import CaseVerdict, judge

Score = Callable[[CaseVerdict], float]
_BATCH: Final = 12
_PARENTS: Final = 6
_NEW: Final = 0.25
"""Share of cases that are drawn, not mutated."""
_KEPT: Final = 0.7
"""Share of the score that a simpler case must keep."""


def climb(scores: Iterable[Score], rounds: int, seed: int, pool: Executor) -> list[CaseVerdict]:
    """Return all verdicts of a search that maximizes each score in turn."""
    random, found, seen = Random(seed), list[CaseVerdict](), set[SearchCase]()
    goals = list(scores)
    for number in range(rounds):
        score = goals[number % len(goals)]
        parents = sorted(found, key=score, reverse=True)[:_PARENTS]
        cases = set[SearchCase]()
        while len(cases) < _BATCH:
            fresh = not parents or random.random() < _NEW
            case = draw_case(random) if fresh else mutate(random.choice(parents).case, random)
            if case not in seen:
                cases.add(case)
        seen |= cases
        found += pool.map(judge, sorted(cases, key=repr))
    return found


def shrink(worst: CaseVerdict, score: Score, pool: Executor) -> CaseVerdict:
    """Return the verdict on a case as bad with as few unusual values as possible."""
    least = _KEPT * score(worst)
    while True:
        found = [one for one in pool.map(judge, simpler(worst.case)) if score(one) >= least]
        if not found:
            return worst
        worst = max(found, key=score)
