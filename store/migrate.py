"""Migration of a database to the newest tables (`infaas db upgrade`), and the check of their version.

Alembic manages the order and the version table; the migrations themselves are plain SQL. A session advisory lock
serializes concurrent calls, so every replica may call `upgrade` at its start.

Alembic and SQLAlchemy are imported only when a migration runs, because their import takes more than a second of CPU
time, which other commands and the restart of a killed service must not pay.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from schemas.errors import OperatorError
from store.errors import translate_errors
from store.pool import TIMEOUT_S, DatabaseSession, open_pool
from store.settings import StoreSettings, checked_dsn

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD: Final = "0001_tables"
"""Newest migration; a test compares it with the files."""
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


def unknown_version(found: str) -> OperatorError:
    """Return the error for tables of a version that this program has no migration for."""
    return OperatorError(
        f"the tables are at version {found}, which this program does not know (it needs {HEAD}): if a newer version of "
        "infaas made them, use that version; tables from before the first release cannot be upgraded: set "
        "INFAAS_POSTGRES to an empty database, or --home to a new folder, and register the models again"
    )


async def require_current(session: DatabaseSession) -> None:
    """Check that the tables have the version that this program needs.

    Raises:
        OperatorError: the tables are missing, older or newer.
    """
    found = None
    if await session.fetch_value(bool, "SELECT to_regclass('alembic_version') IS NOT NULL"):
        found = await session.fetch_value(str, "SELECT version_num FROM alembic_version")
    if found is not None and found > HEAD:
        raise unknown_version(found)
    if found != HEAD:
        raise OperatorError(f"the tables are at version {found}, this program needs {HEAD}: run `infaas db upgrade`")


async def require_current_at(settings: StoreSettings) -> None:
    """Check that the tables of the configured database have the version that this program needs.

    Raises:
        StoreUnavailable: Postgres is unreachable.
        OperatorError: the tables are missing, older or newer.
    """
    async with open_pool(settings.dsn, max_size=1) as pool:
        await require_current(pool)
