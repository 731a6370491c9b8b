"""Check of the version of the tables.

It is separate from `migrate.py`, so that a service starts without importing Alembic. That import takes 1.5 s of CPU
time, which would delay the restart of a killed service.
"""

from typing import Final

from schemas.errors import OperatorError
from store.pool import DatabaseSession, open_pool
from store.settings import StoreSettings

HEAD: Final = "0001_tables"
"""Newest migration; a test compares it with the files."""


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
