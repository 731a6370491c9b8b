"""The `infaas` command with all its groups of commands.

A command's module is imported when the command runs: imports of all of them take longer than most commands.
"""

from collections import UserDict
from pkgutil import resolve_name
from typing import Annotated, Any, Final, NamedTuple

import typer

from infaas.cli.output import CommandGroup
from process.logs import configure_logging, said_format, said_level
from process.outages import quiet_outages
from process.version import version

_COMMANDS: Final = {
    "The system": {"up": "system:up", "down": "status:down", "status": "status:status", "demo": "demo:demo"},
    "Queries": {
        "query": "query:query",
        "explain": "query:explain",
        "batch": "batch:batch",
        "jobs": "jobs:app",
        "mcp": "mcp:mcp",
    },
    "Models": {
        "register": "register:register",
        "unregister": "unregister:unregister",
        "cascade": "composites:cascade",
        "chain": "composites:chain",
        "tasks": "listing:tasks",
        "models": "listing:models",
        "profile": "listing:profile",
        "history": "versions:history",
        "rollout": "versions:rollout",
        "rollback": "versions:rollback",
        "variants": "plot:app",
        "registrations": "registrations:app",
        "access": "access:app",
    },
    "Planning": {"simulate": "simulate:app", "plan": "plan:plan", "calibrate": "calibrate:calibrate"},
    "Operation": {
        "console": "console:console",
        "top": "top:top",
        "lag": "health:lag",
        "record": "record:record",
        "audit": "audit:audit",
        "scale": "scale:app",
        "catalogue": "catalogue:app",
        "keys": "keys:app",
        "dead-letters": "dead_letters:app",
        "tenants": "tenants:app",
        "db": "database:app",
    },
}
"""Module in this package and attribute of each command or group, by panel of the help."""


class _Source(NamedTuple):
    """A command that is not imported yet."""

    panel: str
    attribute: str


class _Commands(UserDict[str, Any]):
    """Commands by name; each is imported when it is first read."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, _Source):
            found = self[name] = _load(name, found)
        return found


def _load(name: str, source: _Source) -> Any:
    found = resolve_name(f"{__package__}.{source.attribute}")
    one = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        one.add_typer(found, name=name, rich_help_panel=source.panel)
        group: Any = typer.main.get_command(one)
        return group.commands[name]
    one.command(name, rich_help_panel=source.panel)(found)
    return typer.main.get_command(one)


class _LazyGroup(CommandGroup):
    """The whole command line."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        sources = ((name, panel, at) for panel, group in _COMMANDS.items() for name, at in group.items())
        self.commands = _Commands({name: _Source(panel, at) for name, panel, at in sources})


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"infaas {version()}")
        raise typer.Exit


@app.callback()
def infaas(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Inference without choosing models: name a task and your needs, and the system picks the variant."""


def main() -> None:
    """Run the command line."""
    configure_logging(said_level("WARNING"), said_format())
    quiet_outages()  # a command reports an outage as its error
    app()


if __name__ == "__main__":
    main()
