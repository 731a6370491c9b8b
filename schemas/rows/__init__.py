"""Row types of what Postgres keeps. Field names are column names; times are aware datetimes, durations seconds.

Reading order: tensor_spec, processing -> catalog (what is registered) -> rollout (which version answers) -> builds
(what is being made of it), registrations (what is to be registered, by the admin API), removals (what of it goes) ->
placement (what serves) -> scaling (what changes that), cluster (both at once) -> samples (what was seen of it) -> jobs
(queries that are kept), tenants (who asks by a topic of its own) -> audit (what administrators did), api_keys (who may
ask).
"""
