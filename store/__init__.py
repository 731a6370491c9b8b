"""Postgres, the only durable state besides the log. No other package imports asyncpg, SQLAlchemy or alembic.

Inference queries never wait for Postgres. Services work on snapshots and keep the last one during an outage.

Reading order: settings, dsn (hides its password) -> errors -> pool (runs statements) -> sql (loads the queries) ->
migrate (upgrades the tables), version, system (identity of the system) -> registry (tasks, models and variants), access
(owners and visibility), rollouts (serving versions), claims (rows that one process executes), builds (steps that
workers execute), uploads, registrations (requests through the admin API), tenants (tenants with their own topics),
system_secret (shared secret of the services), audit (administrators' actions) -> shared_connection (one connection per
process) -> change_listener (notifications) -> watcher (snapshot in memory) -> catalog (the registry in memory) ->
placement, corrections, scaling, cluster (wanted and actual scale) -> jobs (stored queries) -> api_keys (credentials) ->
samples (observations) -> removal (unregistering), removal_queue (requests to unregister) -> leader (advisory lock),
held_name (lock on a process name) -> embedded (embedded server), left_servers (cleanup after a killed server).
"""
