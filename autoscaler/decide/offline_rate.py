"""Rate at which the offline backlogs of a task must be computed.

Backlogs without a deadline take `drain_s`. Those with one are taken in the order of their deadlines: at each deadline
everything due until then must be done, so the steepest of these rates counts. A deadline later than `drain_s` asks for
no less than no deadline. If work with a deadline waits behind other work, its time shrinks, and the next decisions
raise its rate.

New capacity serves after `catch_up_s` at the latest. It is reserved at the end of the time left, and no backlog is
planned within less: more capacity would come too late.
"""

from collections.abc import Iterable

from autoscaler.decide.snapshot import Backlog


def offline_rate(backlogs: Iterable[Backlog], drain_s: float, catch_up_s: float) -> float:
    """Return the inputs a second at which offline backlogs of one task must be computed.

    Args:
        backlogs: the backlogs.
        drain_s: seconds for work without a deadline, and the most for work with one.
        catch_up_s: seconds in which new capacity serves, and the least for any work.
    """
    undated, dated = 0.0, list[tuple[float, float]]()
    for backlog in backlogs:
        if backlog.left_s is None:
            undated += backlog.inputs
        else:
            dated.append((backlog.left_s, backlog.inputs))
    due = steepest = 0.0
    for left_s, inputs in sorted(dated):
        due += inputs
        steepest = max(steepest, due / min(max(left_s - catch_up_s, catch_up_s), drain_s))
    return undated / drain_s + steepest
