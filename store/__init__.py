"""Postgres: the only durable state besides the log. Nothing else imports asyncpg, SQLAlchemy or alembic.

No query waits for anything here: services work on snapshots and keep the last one while Postgres is away.

Reading order: settings, dsn (without its password) -> errors -> pool (how a statement is run) -> sql (loads the
queries) -> migrate (brings tables up to date), version, system (which system they belong to) -> registry (what is
registered), access (whose it is), rollouts (which version of it answers), builds (what is being made of it), uploads,
registrations (what is to be registered, by the admin API), tenants (who asks by a topic of its own), system_secret (by
which services prove what they say), audit (who did what) -> shared_connection (the one that a process has) ->
change_listener (what changed) -> watcher (what is known, kept current) -> catalog (all of it in memory, kept current)
-> placement, corrections, scaling, cluster (what is wanted and what there is) -> jobs (what users ask of them),
job_queue (what is done with them) -> api_keys (who may ask) -> samples (what was observed) -> removal (all of a name
gone), removal_queue (what is to go) -> leader (advisory lock), held_name (of a process) -> embedded (a server of our
own), left_servers (what a killed one leaves).
"""
