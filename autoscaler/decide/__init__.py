"""Scaling decisions: pure functions of observations, shared by the service, tests and simulation.

They do no I/O, read no clock and use no random numbers; ages come in as numbers.

Reading order: snapshot (input) -> plan (output) -> decide (all steps) -> pareto (variants worth serving) ->
expected_load (forecast, load of canaries), throughput (of a slot, measured over profiled latency), offline_rate (of
backlogs), requirements (load to serve, and the options for it) -> optimizer (number of instances and workers) ->
stabilization (delayed scale-down) -> worker_counts (number of workers, and which ones leave) -> worker_capacity (free
capacity by worker) -> placement_builder (rows and partitions), eviction (freeing memory), placement (which worker hosts
which variant) -> planner (one decision after another).
"""
