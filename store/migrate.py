"""Migration of a database to the newest tables (`infaas db upgrade`).

Alembic manages the order and the version table; the migrations themselves are plain SQL. A session advisory lock
serializes concurrent calls, so every replica may call `upgrade` at its start.

Alembic and SQLAlchemy are imported only when a migration runs, because their import takes more than a second of CPU
time, which other commands must not pay.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from store.dsn import checked_dsn
from store.errors import translate_errors
from store.pool import TIMEOUT_S
from store.version import unknown_version

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_LOCK_KEY: Final = 0x696E66616173  # "infaas"
_TIMEOUT_S: Final = 120.0


async def upgrade(dsn: str) -> str:
    """Run the missing migrations; return the version of the database.

    Raises:
        StoreUnavailable: Postgres is unreachable, or another upgrade holds the lock for too long.
        OperatorError: the database is at a version that this program does not know.
    """
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    dsn = checked_dsn(dsn)

    def connect() -> Awaitable[Any]:
        return asyncpg.connect(dsn, timeout=TIMEOUT_S, server_settings={"application_name": "infaas-migrate"})

    # The driver parses the DSN instead of SQLAlchemy, so that the same DSN works everywhere.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    with translate_errors():
        async with asyncio.timeout(_TIMEOUT_S), engine.connect() as connection:
            # A session lock is released when the connection closes, also after an error.
            await connection.execute(text(f"SELECT pg_advisory_lock({_LOCK_KEY})"))
            await connection.commit()
            return await connection.run_sync(_run)


def migrations() -> "Config":
    """Return Alembic's configuration with the location of the migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(connection: "Connection") -> str:
    from alembic import command
    from alembic.util import CommandError
    from sqlalchemy import text

    config = migrations()
    config.attributes["connection"] = connection
    version = text("SELECT version_num FROM alembic_version")
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise unknown_version(connection.execute(version).scalar_one()) from error
    return connection.execute(version).scalar_one()
