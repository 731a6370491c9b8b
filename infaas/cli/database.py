"""`infaas db`: the tables in Postgres."""

import asyncio

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, find_database
from infaas.cli.output import CommandGroup, err
from store.migrate import upgrade as upgrade_database

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Care for the tables in Postgres.")


@app.callback()
def database() -> None:
    """Care for the tables in Postgres."""


@app.command()
def upgrade(home: Home = DEFAULT_HOME) -> None:
    """Create the tables, or bring them to this version; does nothing where they are."""
    version = asyncio.run(upgrade_database(find_database(home)))
    err.print(f"the database is at version {version}")
