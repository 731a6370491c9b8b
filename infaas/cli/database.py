"""`infaas db`: the tables in Postgres."""

import asyncio

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, find_database, find_kafka
from infaas.cli.output import CommandGroup, err
from registry.system_identity import join_system
from schemas.topics import PREFIX
from store.migrate import require_current
from store.migrate import upgrade as upgrade_database
from store.pool import open_pool

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Manage the tables in Postgres.")


@app.callback()
def database() -> None:
    """Manage the tables in Postgres."""


@app.command("take-over")
def take_over(home: Home = DEFAULT_HOME) -> None:
    """Assign Kafka's topics to this Postgres, if the Postgres of another system is lost for good.

    First stop all services of that system. Then register its tasks again; the queries in their topics will be answered.
    """
    kafka = find_kafka(home)

    async def joined() -> None:
        async with open_pool(find_database(home), max_size=1) as pool:
            await require_current(pool)
            await join_system(pool, kafka, take_over=True)

    asyncio.run(joined())
    err.print(f"the topics {PREFIX}* in Kafka at {kafka.bootstrap} belong to the system of this Postgres")


@app.command()
def upgrade(home: Home = DEFAULT_HOME) -> None:
    """Create the tables or upgrade them to this version; no effect if they are up to date."""
    version = asyncio.run(upgrade_database(find_database(home)))
    err.print(f"the database is at version {version}")
