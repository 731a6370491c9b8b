"""`make bench-scale`: what scaling must show, on real processes, a real Apache Kafka and a real Postgres.

Reading order: traffic (the load), watching (what the autoscaler did meanwhile), plots -> steps (load in steps up to
eightfold and down again: autoscaled, with and without kills, and two fixed fleets) -> zero (an idle task frees its
memory; how long the first query after takes) -> milp (how long the solver takes for many architectures and workers) ->
deciding (how long the autoscaler's decision takes for many workers) -> crowd, selection (what a selector's costs among
many replicas, and how good it is) -> fleet (two hundred workers on one Postgres) -> registering (what a registration
costs who watches) -> recorder (what it costs to watch 10,000 partitions) -> ray_nodes, ray_cluster (four Ray nodes on
this machine, one killed under load) -> __main__.
"""
