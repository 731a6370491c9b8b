"""Postgres, the only durable state besides the log. No other package imports asyncpg, SQLAlchemy or alembic.

Inference queries never wait for Postgres. Services work on snapshots and keep the last one during an outage.

Reading order: settings (the DSN hides its password) -> errors -> pool (runs statements, loads the queries) -> migrate
(upgrades the tables, checks their version), system (identity of the system, shared secret of the services) -> registry
(tasks, models, variants, profiles and their corrections), tenants (tenants with their own topics, owners and
visibility), rollouts (serving versions), claims (rows that one process executes), builds (steps that workers execute),
uploads, registrations (requests through the admin API), audit (administrators' actions) -> shared_connection (one
connection per process, notifications) -> watcher (snapshot in memory) -> catalog (the registry in memory) -> placement,
scaling (wanted and actual scale) -> jobs (stored queries), batches (files and batches of OpenAI's API) -> api_keys
(credentials) -> samples (observations) -> removals (unregistering, and its requests) -> leader (advisory locks:
leadership, process names) -> embedded (embedded server).
"""
