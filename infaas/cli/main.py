"""The `infaas` command with all its groups of commands."""

from typing import Annotated

import typer

from infaas.cli import (
    access,
    audit,
    batch,
    composites,
    database,
    dead_letters,
    demo,
    health,
    jobs,
    keys,
    listing,
    plot,
    query,
    register,
    registrations,
    scale,
    system,
    tenants,
    unregister,
    versions,
)
from infaas.cli.output import CommandGroup
from process.logs import configure_logging, said_format, said_level
from process.outages import quiet_outages
from process.version import version

app = typer.Typer(
    cls=CommandGroup,
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


for command in (system.up, system.down, system.status, demo.demo):
    app.command(rich_help_panel="The system")(command)
for command in (query.query, query.explain, batch.batch):
    app.command(rich_help_panel="Queries")(command)
app.command(rich_help_panel="Models")(register.register)
app.command(rich_help_panel="Models")(unregister.unregister)
for command in (composites.cascade, composites.chain):
    app.command(rich_help_panel="Models")(command)
for command in (listing.tasks, listing.models, listing.profile):
    app.command(rich_help_panel="Models")(command)
for command in (versions.history, versions.rollout, versions.rollback):
    app.command(rich_help_panel="Models")(command)
for command in (health.lag, audit.audit):
    app.command(rich_help_panel="Operation")(command)
variants = typer.Typer()
variants.callback(invoke_without_command=True)(listing.variants)
variants.command()(plot.plot)
app.add_typer(variants, name="variants", rich_help_panel="Models")
app.add_typer(registrations.app, name="registrations", rich_help_panel="Models")
app.add_typer(access.app, name="access", rich_help_panel="Models")
app.add_typer(jobs.app, name="jobs", rich_help_panel="Queries")
app.add_typer(scale.app, name="scale", rich_help_panel="Operation")
app.add_typer(keys.app, name="keys", rich_help_panel="Operation")
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel="Operation")
app.add_typer(tenants.app, name="tenants", rich_help_panel="Operation")
app.add_typer(database.app, name="db", rich_help_panel="Operation")


def main() -> None:
    """Run the command line."""
    configure_logging(said_level("WARNING"), said_format())
    quiet_outages()  # a command reports an outage as its error
    app()


if __name__ == "__main__":
    main()
