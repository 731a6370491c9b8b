"""Postgres: the only durable state besides the log. Nothing else imports asyncpg, SQLAlchemy or alembic.

Reading order: settings -> errors -> pool -> sql (loads queries/*.sql) -> migrate (migrations/) -> registry -> catalog
-> placement -> samples -> changes (LISTEN) -> leader (advisory lock) -> embedded (a server of our own).
No query waits for anything here: services work on snapshots and keep the last one while Postgres is away.
"""
