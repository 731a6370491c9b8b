"""`make bench-scale`: behaviour at scale, on real processes, a real Apache Kafka and a real Postgres.

Reading order: loads (tasks whose peaks do not meet, a published trace), traffic (sends them), watching (record of the
autoscaler's actions) -> steps (autoscaled fleets, with and without kills, and fixed ones, beside their simulation) ->
zero (memory freed by an idle task, and latency of the next query) -> milp (time of the solver for many architectures
and workers) -> deciding (time of the autoscaler's decision for many workers) -> crowd, selection (cost and quality of a
selector's decision among many replicas) -> statuses, catalog_change (cost of a status, and of a change of the catalog,
in a selector) -> fleet (two hundred workers on one Postgres, and the cost of a registration for each catalog watcher)
-> synthetic_worker, cluster (CPU time of each service of a cluster of up to a thousand workers, and the ages of
statuses and heartbeats) -> recorder (cost of observing 10,000 partitions) -> simulation (CPU time and memory of the
simulator) -> web_console (sizes and costs of the console) -> ray_nodes, ray_cluster (four Ray nodes on this machine,
one killed under load) -> __main__.
"""
