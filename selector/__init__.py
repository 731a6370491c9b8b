"""Chooses the instance that answers a query.

Reading order: settings -> cost, variants (what is registered) -> entities (what runs) -> indexed_set, replicas (a good
one of many) -> candidates (the cached, static half of a choice) -> cluster_state (the snapshot of both) -> prediction
(when an instance would answer) -> policy (the choice: pure) -> overload (who is refused under overload) -> explain ->
forward (headers) -> dispatcher (from a record to the next) -> load_meter, metrics (what is counted) -> service (loops)
-> command, __main__.
"""
