"""What the solver advises: targets that `decide` follows until there are newer ones. Blocks up to its time limit."""

from autoscaler.decide.greedy import stay
from autoscaler.decide.milp import GAP, TIME_LIMIT_S, solve
from autoscaler.decide.needs import build
from autoscaler.decide.objective import Answer, Problem, cost, violations
from autoscaler.decide.pareto import Ranking
from autoscaler.decide.situation import Limits, Situation, Targets


def aim(ranking: Ranking, situation: Situation, limits: Limits, time_limit_s: float = TIME_LIMIT_S) -> Targets | None:
    """The best instances and workers for this load; None while it is unknown or a person pauses."""
    if not situation.known or situation.paused:
        return None
    problem = build(ranking, situation, limits)
    found = solve(problem, time_limit_s)
    answer, price = found.answer, cost(problem, found.answer)
    there = stay(problem)
    if cost(problem, there) <= max(price, found.bound) * (1 + GAP) and not violations(problem, there):
        answer = there  # what is there is as good as can be told: leave it
    return _targets(problem, answer, f"{price:.4g} USD/h, at least {found.bound:.4g}")


def _targets(problem: Problem, answer: Answer, reason: str) -> Targets:
    return Targets(
        instances={kind.name: n for kind, n in zip(problem.kinds, answer.instances, strict=True) if n},
        workers={pool.hardware: n for pool, n in zip(problem.pools, answer.workers, strict=True)},
        reason=reason,
    )
