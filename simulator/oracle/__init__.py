"""Oracle bound: the least cost, or the fewest violations, of any system that knows the trace.

The bound is the optimum of a relaxed problem. Every run of every system is a feasible solution of it with the run's own
cost and violations, so no run is cheaper. The trace from the end of the warm-up on is cut into windows of equal length.
Columns of the linear program: queries of each kind and window by hardware, slot seconds by hardware and window, and
the workers that are ready at each edge of two windows.

A query is satisfied by a result in time from a variant of its task that is its target and accurate enough. Relaxations:

1.  Clients, gateways, selectors, Kafka and statuses take no time, and no decision does.
2.  Only queries after the warm-up count, and only time between its end and the last arrival costs, as in
    `SimulationResult.usd`. Workers that are ready at the end of the warm-up have cost nothing, and the `drain_s` after
    the last arrival are free on `maximum` workers (or the scenario's fleet, if larger).
3.  A query's slot seconds may lie in any of the windows from that of its arrival to that of the latest deadline of its
    window, in parts and on any workers of one hardware. No time between arrival and deadline is left out.
4.  A query takes its share of a batch of the size that takes the fewest slot seconds by input. A batch holds at most
    the inputs of its task that can be in time together: those of a span as long as the task's longest latency, and all
    without a deadline. (Shares of a batch are counted among the inputs that may still be in time at its start, because
    more inputs never take less time.)
5.  Batches disturb each other in no way, no worker is slowed, and no worker dies.
6.  Every variant is loaded on every worker: memory, and loads but the first of a worker, are left out. A worker that
    becomes ready is charged for the part of the start of its hardware and of the load of its quickest variant that
    may lie after the warm-up.
7.  The maximum price of a query (`max_cost`) is left out, because an upgrade is given at the price of the cheapest
    variant. So are the tenants that may use a variant.
8.  Workers are real numbers. Yet a query needs a whole worker: of the queries of a window that have the same choice of
    hardware, no larger share is satisfied on one than there are workers of it that are ready in the window or become
    so until the latest deadline.

Times are random: a batch takes its median t times a lognormal factor X that is drawn when it starts. Take a batch that
must end within d seconds. It spends E min(tX, d) seconds before the deadline, and it is in time with the probability
P = P(tX <= d). For every d, E min(tX, d) >= t P. If d >= t: X and 1/X have one distribution, (x + 1/x) / 2 >= 1, and
what exceeds d counts as d >= t. If d < t: E min(tX, d) >= d (1 - P), which is at least t P as long as the standard
deviation of log X is below 1.59, because the log odds of the normal distribution rise by at least 1.59 per unit. So an
input that is in time takes on the average, luck included, at least its share of the median t, and of d (1 - P) / P if
its latency d is below t. A success that is less probable than 1e-9 counts as impossible. The same holds for starts.
The program is linear, so the mean of a system's runs satisfies it with their mean cost and violations: the bound holds
for the mean over seeds, and for each run if p99 equals p50.

Reading order: `demand`, `slot_time`, `linear_program`, `program`, `bound`.
"""
