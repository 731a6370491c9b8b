"""Postgres: the only durable state besides the log. Nothing else imports asyncpg, SQLAlchemy or alembic.

No query waits for anything here: services work on snapshots and keep the last one while Postgres is away.

Reading order: settings -> errors -> pool -> sql (loads queries/*.sql) -> migrate (migrations/), version -> registry,
catalog -> placement, fleet, cluster (what is wanted and what there is) -> samples -> changes (LISTEN) -> leader
(advisory lock) -> embedded (a server of our own).
"""
