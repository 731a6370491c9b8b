"""`infaas registrations`: list, follow and cancel registrations that run on the system, not in the client."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.control import LOOK_S, AdminClient, HttpAdmin, ask_until_reachable, asking, call
from infaas.cli.output import CommandGroup, err, show, show_json, table
from infaas.cli.progress_bar import ProgressBar
from infaas.cli.registered import check_ready, show_registered
from infaas.cli.uploads import Uploader, uploading
from schemas.endpoints.endpoint import Endpoint
from schemas.endpoints.registrations import CANCEL, LIST, SHOW, RegistrationRequest, RegistrationsRequest
from schemas.errors import OperatorError, query_error
from schemas.registrations import RegisteredVariant, RegistrationState, RegistrationStatus

Asked: TypeAlias = tuple[Endpoint[Any, RegistrationStatus], Any]
"""Endpoint and request of a registration, with its files uploaded."""
_IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id from `infaas register` or `list`.")]

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Registrations over a gateway, and their progress.")


@app.command("list")
def list_registrations(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number, latest first.")] = 100,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List registrations, the latest first."""
    rows = call(home, LIST, RegistrationsRequest(limit=limit))
    if as_json:
        return show_json(rows)
    columns = ("id", "kind", "name", "state", "steps>", "step or error")
    shown = [(r.id, r.kind, r.name, r.state, f"{r.steps_done}/{r.steps_total}", r.error or r.doing) for r in rows]
    return show(table(columns, shown))


@app.command("show")
def show_registration(registration: _IdArgument, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Show a registration and its result."""
    row = call(home, SHOW, RegistrationRequest(id=registration))
    if as_json:
        return show_json(row)
    notes = [("note", note) for note in row.notes]
    rows = [("id", row.id), (row.kind, row.name), ("asked by", row.asked_by), ("state", row.state), *notes]
    rows += [("error", row.error)] if row.error else [(one.variant.name, one.variant.state) for one in row.made]
    return show(table(("registration", ""), rows))


@app.command("follow")
def follow_registration(registration: _IdArgument, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Follow a registration to its end."""

    async def follow() -> list[RegisteredVariant]:
        async with asking(home) as ask:
            with ProgressBar() as bar:
                return await followed(ask, registration, bar)

    made = asyncio.run(follow())
    variants = [one.variant for one in made]
    if not as_json:
        return show_registered(variants, as_json=False)
    show_json(made)
    return check_ready(variants)


@app.command("cancel")
def cancel_registration(registration: _IdArgument, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Cancel a registration. Finished variants stay; registering again resumes."""
    row = call(home, CANCEL, RegistrationRequest(id=registration))
    if as_json:
        return show_json(row)
    return err.print(f"registration {row.id} of {row.name} is cancelled", highlight=False)


def register_over_gateway(home: Path, ask_for: Callable[[Uploader], Awaitable[Asked]]) -> list[RegisteredVariant]:
    """Upload files, request a registration, and follow it to its end; returns the variants.

    Raises:
        InfaasError: the registration failed, with the same errors as one in this process.
    """

    async def register() -> list[RegisteredVariant]:
        async with asking(home) as ask:
            assert isinstance(ask, HttpAdmin), "INFAAS_URL is set"
            with ProgressBar() as bar:
                async with uploading(ask, bar) as uploader:
                    endpoint, request = await ask_for(uploader)
                row = await ask(endpoint, request)
                return await followed(ask, row.id, bar)

    return asyncio.run(register())


async def followed(ask: AdminClient, registration: str, bar: ProgressBar) -> list[RegisteredVariant]:
    """Show the progress of a registration until it has ended; returns its variants.

    Raises:
        InfaasError: the registration failed or was cancelled.
    """
    noted = 0
    try:
        while True:
            row = await ask_until_reachable(ask, SHOW, RegistrationRequest(id=registration))
            for note in row.notes[noted:]:
                bar.note(note)
            noted = len(row.notes)
            bar.step(row.steps_done, row.steps_total, row.doing or f"{row.name}: {row.state}")
            if row.ended:
                return _outcome(row)
            await asyncio.sleep(LOOK_S)
    except asyncio.CancelledError:
        err.print(
            f"registration {registration} continues on the system: `infaas registrations follow {registration}` shows "
            f"its progress, `infaas registrations cancel {registration}` cancels it",
            highlight=False,
        )
        raise


def _outcome(row: RegistrationStatus) -> list[RegisteredVariant]:
    if row.state is RegistrationState.FAILED:
        raise query_error(row.error_code, row.error) if row.error_code else OperatorError(row.error)
    if row.state is RegistrationState.CANCELLED:
        raise OperatorError(f"registration {row.id} was cancelled; variants that were ready are kept")
    return list(row.made)
