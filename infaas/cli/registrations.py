"""`infaas registrations`: list, follow and cancel registrations that run on the system, not in the client.

Also the output and the exit code of a finished registration, for all commands that register.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import typer
from rich.table import Table

from admin import registrations
from admin.api import Endpoint
from admin.registrations import RegistrationRequest, RegistrationsRequest
from infaas.cli.admin_client import LOOK_S, AdminClient, HttpAdmin, ask_until_reachable, asking
from infaas.cli.connect import DEFAULT_HOME, URL_ENV, Home, Json, gateway_url
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import EXIT_PARTIAL, EXIT_SETUP, CommandGroup, ProgressBar, err, show, show_json, table
from infaas.cli.uploads import Uploader, uploading
from registry.builds.open_executor import BuildChoice
from schemas.errors import OperatorError, query_error
from schemas.registrations import ListedRegistration, RegisteredVariant, RegistrationState, RegistrationStatus
from schemas.rows.catalog import Variant, VariantState

Asked: TypeAlias = tuple[Endpoint[Any, RegistrationStatus], Any]
"""Endpoint and request of a registration, with its files uploaded."""

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Registrations over a gateway, and their progress.")


def _list_registrations(_request: RegistrationsRequest, rows: list[ListedRegistration]) -> Table:
    columns = ("id", "kind", "name", "state", "steps>", "step or error")
    shown = [(r.id, r.kind, r.name, r.state, f"{r.steps_done}/{r.steps_total}", r.error or r.doing) for r in rows]
    return table(columns, shown)


app.command("list")(prints(registrations.list_all, _list_registrations))


def _show_registration(_request: RegistrationRequest, row: RegistrationStatus) -> Table:
    notes = [("note", note) for note in row.notes]
    rows = [("id", row.id), (row.kind, row.name), ("asked by", row.asked_by), ("state", row.state), *notes]
    rows += [("error", row.error)] if row.error else [(one.variant.name, one.variant.state) for one in row.made]
    return table(("registration", ""), rows)


app.command("show")(prints(registrations.show, _show_registration))


@app.command("follow")
@with_options
def follow_registration(
    options: RequestOptions[RegistrationRequest], home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Follow a registration to its end."""
    registration = options.request().id

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


def _cancel_registration(_request: RegistrationRequest, row: RegistrationStatus) -> None:
    err.print(f"registration {row.id} of {row.name} is cancelled", highlight=False)


app.command("cancel")(prints(registrations.cancel, _cancel_registration))


def register_anywhere(
    home: Path,
    choice: BuildChoice,
    here: Callable[[], Coroutine[Any, Any, list[RegisteredVariant]]],
    ask_for: Callable[[Uploader], Awaitable[Asked]],
) -> list[RegisteredVariant]:
    """Register in this process; over the gateway in `INFAAS_URL` if it is set. Returns the variants.

    Over a gateway, `ask_for` uploads the files, and the registration is requested and followed to its end.

    Raises:
        OperatorError: `--local` contradicts a registration over a gateway.
        InfaasError: the registration failed, with the same errors on both ways.
    """
    if not gateway_url():
        return asyncio.run(here())
    if choice.local:
        raise OperatorError(f"--local builds on this machine, but {URL_ENV} names a gateway: leave out one of them")

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
            row = await ask_until_reachable(ask, registrations.show, RegistrationRequest(id=registration))
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


def show_registered(variants: Sequence[Variant], labels: Sequence[str] = (), *, as_json: bool) -> None:
    """Print the ready and the refused variants, then call `check_ready`."""
    if as_json:
        show_json(variants)
    else:
        ready = sum(v.state is VariantState.READY for v in variants)
        refused = [(v.name, v.reason) for v in variants if v.state is VariantState.REFUSED]
        err.print(f"{ready} variant(s) ready; `infaas variants` shows the measurements")
        if refused:
            show(table(("refused", "reason"), refused))
    check_ready(variants, labels)


def check_ready(variants: Sequence[Variant], labels: Sequence[str] = ()) -> None:
    """Check that at least one variant is ready, and none of those named by `--variant` (`labels`) is refused.

    Raises:
        Exit: with code 1 if no variant is ready, with code 3 if a named one is refused.
    """
    if not any(v.state is VariantState.READY for v in variants):
        raise typer.Exit(EXIT_SETUP)
    if any(v.state is VariantState.REFUSED and label in v.name.split(".") for v in variants for label in labels):
        raise typer.Exit(EXIT_PARTIAL)
