"""Row types of the Postgres tables. Field names are column names; times are aware datetimes, durations are seconds.

Reading order: tensor_spec, processing -> catalog (registered tasks and models) -> rollout (serving versions) -> builds
(build steps), registrations (requests through the admin API), removals (unregistering) -> placement (workers and
instances) -> scaling (changes of scale), cluster (scale and placement together) -> samples (observations) -> tenants
(tenants with their own topics) -> audit (administrators' actions), api_keys (credentials).
"""
