"""Scaling decisions: pure functions of observations, shared by the service, tests and simulation.

They do no I/O, read no clock and use no random numbers; ages come in as numbers.

Reading order: snapshot (input) -> plan (output) -> decide (all steps) -> pareto (variants worth serving), failed_loads
(variants that cannot be loaded) -> forecast, canary_load (load of canaries), slowdowns (measured over profiled
latency), requirements (load to serve, and the options for it) -> optimizer (number of instances and workers) ->
stabilization (delayed scale-down) -> batch_limits (largest batches) -> worker_counts (number of workers, and which ones
leave) -> worker_capacity, worker_order, load_shares (free capacity by worker) -> partitions, placement_builder,
eviction (freeing memory), placement (which worker hosts which variant).
"""
