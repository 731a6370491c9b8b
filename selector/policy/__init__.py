"""Choice of an instance for a query, from the selector's view of the cluster. No I/O.

Reading order: variants (registered variants and prices) -> partition, worker_kind (sizes of workers), send_rate,
entities (workers, instances) -> replicas (choice among many replicas) -> candidates (cached, static part of a choice)
-> failed_loads (variants that cannot be loaded), learned_lengths (of generative answers), cluster_state (all of these
as one view) -> prediction (finish time on an instance) -> choice (context, outcomes and refusals) -> generative (the
choice for a generative answer) -> selection (the steps of a choice) -> late_binding (the choice for an offline query).
"""
