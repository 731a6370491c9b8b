"""`infaas dead-letters`: what could not be processed."""

import asyncio

import typer

from broker.dead_letters import replay as replay_letters
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_kafka
from infaas.cli.output import CommandGroup, err, show_json

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)


@app.callback()
def dead_letters() -> None:
    """Care for the queries that could not be processed."""


@app.command()
def replay(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Send each dead letter that was not replayed yet to the topic it came from."""
    count = asyncio.run(replay_letters(find_kafka(home)))
    if as_json:
        show_json({"replayed": count})
    else:
        err.print(f"{count} dead letter(s) sent again")
