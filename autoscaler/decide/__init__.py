"""What should be where: pure functions of what was observed, shared by the service, tests and simulation.

No I/O, no clock, no randomness: ages come in as numbers.

Reading order: snapshot (what comes in) -> plan (what comes out) -> decide (all of it, in steps) -> pareto (which
variants are worth serving), failed_loads (which cannot be) -> forecast, canary_load (what versions that are tried are
to answer), slowdowns (how much slower than profiled), requirements (what must be served, and by what it can be) ->
optimizer (how many instances and workers that takes) -> stabilization (fewer only after a while) -> batch_limits (how
large batches may be) -> worker_counts (how many workers, and which go) -> worker_capacity, worker_order, load_shares
(what is left, and where) -> partitions, placement_builder, eviction (what gives way), placement (which worker hosts
what).
"""
