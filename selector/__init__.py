"""Chooses the instance that answers a query.

Reading order: settings -> cost, variants (what is registered) -> entities (what runs) -> indexed_set, replicas (a good
one of many) -> candidates (the cached, static half of a choice) -> failed_loads (what cannot be loaded) ->
cluster_state (the snapshot of both) -> prediction (when an instance would answer) -> policy (the choice: pure) ->
refused_lately (and what is refused with it), overload (who is refused under overload) -> late_binding (the choice of an
offline query: pure) -> explain -> forward (headers) -> proof (whose a signed query is) -> received_query (what is read)
-> evidence (what is kept of what is forbidden) -> demand_sender -> intake_pace (the time between two fetches: pure) ->
dispatcher_base, dispatcher (from a record to the next) -> fair_shares (whose turn it is: pure), offline_dispatcher (the
same when something is idle) -> shadow (copies for a version that is tried) -> load_meter, metrics (what is counted)
-> service (loops) -> command, __main__.
"""
