"""Migration of a database to the newest tables (`infaas db upgrade`).

Alembic manages the order and the version table; the migrations themselves are plain SQL. A session advisory lock
serializes concurrent calls, so every replica may call `upgrade` at its start.

Alembic and SQLAlchemy are imported only when a migration runs, because their import takes more than a second of CPU
time, which other commands must not pay.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg

from schemas.errors import OperatorError
from store.dsn import checked_dsn
from store.errors import translate_errors
from store.pool import TIMEOUT_S

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_LOCK_KEY: Final = 0x696E66616173  # "infaas"
_TIMEOUT_S: Final = 120.0


async def upgrade(dsn: str, revision: str = "head") -> str:
    """Run the missing migrations; return the version of the database.

    Raises:
        StoreUnavailable: Postgres is unreachable, or another upgrade holds the lock for too long.
        OperatorError: a newer version of this program made the database.
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
            await connection.run_sync(_run, revision)
            version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one()
    return cast(str, version)


def migrations() -> "Config":
    """Return Alembic's configuration with the location of the migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(connection: "Connection", revision: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    config = migrations()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise OperatorError(
            f"the database was not made by this version of infaas ({error}); use the newer version"
        ) from error
