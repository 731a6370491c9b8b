"""The version of the tables that this program needs.

Apart from `migrate.py`, so that a service starts without importing the migration tool: that takes a second and a half
of CPU, and counts when a killed service must be back.
"""

from typing import Final

from schemas.errors import OperatorError
from store.pool import DatabaseSession, open_pool
from store.settings import StoreSettings

HEAD: Final = "0034"
"""The newest migration; a test holds it to the files."""


async def require_current(session: DatabaseSession) -> None:
    """Raise unless the tables are of the version that this program needs.

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
    """Raise unless the tables of the database that the settings name are of the version that this program needs.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
        OperatorError: the tables are missing, older or newer.
    """
    async with open_pool(settings.dsn, max_size=1) as pool:
        await require_current(pool)
