"""Chooses the instance that answers a query.

Reading order: settings -> cost, variants (registered variants and prices) -> partition, entities (workers, instances)
-> replicas (choice among many replicas) -> candidates (cached, static part of a choice) -> failed_loads (variants that
cannot be loaded) -> cluster_state (all of these as one view) -> prediction (finish time on an instance) -> choice
(context of a choice, and its outcomes) -> policy (pure: the steps of a choice), refusals (reasons in words) ->
refusal_cache (cache of recent refusals), overload (load shedding) -> late_binding (pure: the choice for an offline
query) -> explain -> forward (headers) -> proof (signatures) -> received_query (parsing of records) ->
forbidden_sampler (sample of forbidden records) -> demand_sender -> intake_pace (pure: delay between fetches) ->
dispatcher_base, dispatcher (online queries) -> fair_shares (pure: turns of tenants), offline_dispatcher (offline
queries) -> shadow (copies for a shadow version) -> load_meter, metrics (counters) -> service (loops) -> command,
__main__.
"""
