"""Row types of the Postgres tables. Field names are column names; times are aware datetimes, durations are seconds.

Reading order: catalog (registered tasks and models) -> registrations (requests through the admin API, and builds),
removals (unregistering) -> cluster (workers, instances, scale) -> samples (observations) -> tenants (with their API
keys) -> batches (files and batches of OpenAI's API) -> audit (administrators' actions). Rows of rollouts are in
`schemas.versions`.
"""
