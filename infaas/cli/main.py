"""The `infaas` command with all its groups of commands.

A command's module is imported when the command runs: imports of all of them take longer than most commands.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from infaas.cli.output import CommandGroup
from process.logs import configure_logging, said_format, said_level
from process.outages import quiet_outages
from process.version import version

_COMMANDS: Final = {
    "The system": {"up": "system:up", "down": "status:down", "status": "status:status", "demo": "demo:demo"},
    "Queries": {"query": "query:query", "explain": "query:explain", "batch": "batch:batch", "jobs": "jobs:app"},
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
    "Operation": {
        "lag": "health:lag",
        "audit": "audit:audit",
        "scale": "scale:app",
        "keys": "keys:app",
        "dead-letters": "dead_letters:app",
        "tenants": "tenants:app",
        "db": "database:app",
    },
}
"""Module in this package and attribute of each command or group, by panel of the help."""


class _Commands(MutableMapping[str, Any]):
    """Commands by name; each is imported when it is first read."""

    def __init__(self) -> None:
        self._sources = {name: (panel, source) for panel, group in _COMMANDS.items() for name, source in group.items()}
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, *self._sources[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._sources[name]

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _load(name: str, panel: str, source: str) -> Any:
    module, _, attribute = source.partition(":")
    found = getattr(import_module(f"{__package__}.{module}"), attribute)
    one = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        one.add_typer(found, name=name, rich_help_panel=panel)
        group: Any = typer.main.get_command(one)
        return group.commands[name]
    one.command(name, rich_help_panel=panel)(found)
    return typer.main.get_command(one)


class _LazyGroup(CommandGroup):
    """The whole command line."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


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
