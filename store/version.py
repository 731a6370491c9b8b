"""Check of the version of the tables.

It is separate from `migrate.py`, so that a service starts without importing Alembic. That import takes 1.5 s of CPU
time, which would delay the restart of a killed service.
"""

from typing import Final

from schemas.errors import OperatorError
from store.pool import DatabaseSession, open_pool
from store.settings import StoreSettings

HEAD: Final = "0034"
"""Newest migration; a test compares it with the files."""


async def require_current(session: DatabaseSession) -> None:
    """Check that the tables have the version that this program needs.

    Raises:
        OperatorError: the tables are missing, older or newer.
    """
    found = None
    if await session.fetch_value(bool, "SELECT to_regclass('alembic_version') IS NOT NULL"):
        found = await session.fetch_value(str, "SELECT version_num FROM alembic_version")
    if found is not None and found > HEAD:
        raise OperatorError(f"the database is at version {found}, newer than the {HEAD} of this program: update it")
    if found != HEAD:
        raise OperatorError(f"the database is at version {found}, this program needs {HEAD}: run `infaas db upgrade`")


async def require_current_at(settings: StoreSettings) -> None:
    """Check that the tables of the configured database have the version that this program needs.

    Raises:
        StoreUnavailable: Postgres is unreachable.
        OperatorError: the tables are missing, older or newer.
    """
    async with open_pool(settings.dsn, max_size=1) as pool:
        await require_current(pool)
