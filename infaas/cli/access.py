"""`infaas access`: owner and permitted users of a task or a model; also the access flags of `infaas register`."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from admin import access
from admin.access import AccessChange, AccessOf, AccessRequest
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import CommandGroup, show, show_json, table
from process.security.access import check_access
from schemas.access import Access, Visibility
from schemas.errors import InvalidRequest

OwnerFlag = Annotated[
    str | None, typer.Option("--owner", metavar="TENANT", help="Owning tenant, which may always use and change it.")
]
ShareFlag = Annotated[
    str | None, typer.Option("--share-with", metavar="A,B", help="Tenants that may use it besides its owner.")
]
PrivateFlag = Annotated[
    bool | None, typer.Option("--private/--public", help="Only the owner may use it, or all tenants.")
]

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Owners and permissions of tasks and models.")


def _show_access(_request: AccessRequest, found: AccessOf) -> Table:
    return _table([found])


app.command("show")(prints(access.show_access, _show_access))


@app.command("set")
@with_options
def set_access(
    options: RequestOptions[AccessRequest],
    owner: OwnerFlag = None,
    private: PrivateFlag = None,
    share_with: ShareFlag = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Change the permitted users of a task or a model at once. Composites that use it are restricted accordingly."""
    if private is None and share_with is None:
        raise InvalidRequest("set who may use it with --private, --share-with A,B, or --public")
    visibility, tenants = _declared_users(private, share_with)
    asked = AccessChange(name=options.request().name, owner=owner, visibility=visibility, shared_with=tenants)
    found = call(home, access.set_access, asked)
    if as_json:
        return show_json(found if len(found) != 1 else found[0])
    return show(_table(found))


def declared_access(owner: str | None, private: bool | None, share_with: str | None) -> Access | None:
    """Return the access declared by flags; None if no flag is given.

    Raises:
        InvalidRequest: the flags contradict each other, or name no tenant.
    """
    if owner is None and private is None and share_with is None:
        return None
    visibility, tenants = _declared_users(private, share_with)
    return check_access(Access(owner=owner, visibility=visibility, shared_with=tenants))


def _declared_users(private: bool | None, share_with: str | None) -> tuple[Visibility, frozenset[str]]:
    if private is not None and share_with is not None:
        raise InvalidRequest("give only one of --share-with, --private and --public")
    if share_with is not None:
        return Visibility.SHARED, frozenset(filter(None, (tenant.strip() for tenant in share_with.split(","))))
    return (Visibility.PRIVATE if private else Visibility.PUBLIC), frozenset()


def _table(found: Sequence[AccessOf]) -> Table:
    rows = [
        (one.name, one.access.owner or "-", one.access.visibility, ", ".join(sorted(one.access.shared_with)) or "-")
        for one in found
    ]
    return table(("name", "owner", "visibility", "shared with"), rows)
