"""`infaas unregister`: remove a variant, a model or a task with its topics, files and rows."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from admin import removals
from infaas.cli.admin_client import LOOK_S, AdminClient, ask_until_reachable, asking, call, gateway_url, local_context
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_database, with_database
from infaas.cli.output import ProgressBar, err, show, show_json, table
from schemas.errors import NotFound, OperatorError
from schemas.rows.removals import Removal, RemovalPlan, RemovalReport, RemovalRequest, RemovalState

_OVER: Final = (RemovalState.DONE, RemovalState.FAILED)


def unregister(
    name: Annotated[str, typer.Argument(help="A variant, a model, a version (MODEL@2), or a task with its models.")],
    force: Annotated[bool, typer.Option("--force", help="Remove it even if it is in use.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
    drain_timeout: Annotated[
        float,
        typer.Option(min=1, max=3600, help="Longest wait, in seconds, until pending queries are answered."),
    ] = RemovalRequest(name="").drain_timeout_s,
    results_grace: Annotated[
        float,
        typer.Option(min=0, max=3600, help="Seconds to keep results of a task readable before deletion."),
    ] = RemovalRequest(name="").results_grace_s,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Unregister a variant, a model or a task after its queries are answered. Run it again to resume a removal."""
    if dry_run:
        plan = call(home, removals.plan, removals.RemovalPlanRequest(name=name))
        return show_json(plan) if as_json else _show(plan)
    request = RemovalRequest(
        name=name, force=force, drain_timeout_s=drain_timeout, results_grace_s=results_grace
    )  # fmt: skip
    report = asyncio.run(_remove_there(request, home)) if gateway_url() else _remove_here(request, home)
    if as_json:
        return show_json(report)
    if report is None:
        return err.print(f"{name} was meanwhile unregistered by another caller")
    gone = report.plan
    return err.print(
        f"{name} was removed: {len(gone.names.variants)} variant(s), {len(gone.topics)} topic(s), {len(gone.files)} "
        f"file(s); {report.moved} waiting queries were moved back to the task"
    )


def _remove_here(request: RemovalRequest, home: Path) -> RemovalReport | None:
    dsn = find_database(home)
    with ProgressBar() as bar:
        return with_database(home, lambda pool: removals.remove(local_context(home, pool), dsn, request, bar))


async def _remove_there(request: RemovalRequest, home: Path) -> RemovalReport | None:
    """Have a gateway remove it, and follow the removal to its end.

    Raises:
        OperatorError: the removal failed, or its progress can no longer be read.
    """
    async with asking(home) as ask:
        removal = await ask(removals.begin, request)
        with ProgressBar() as bar:
            while removal.state not in _OVER:
                bar.step(removal.done, removal.total or 1, removal.step or f"{removal.name}: waiting for a gateway")
                await asyncio.sleep(LOOK_S)
                removal = await _look(ask, removal)
    if removal.state is RemovalState.FAILED:
        raise OperatorError(removal.error)
    return removal.report


async def _look(ask: AdminClient, removal: Removal) -> Removal:
    try:
        return await ask_until_reachable(ask, removals.status, removals.RemovalStatusRequest(id=removal.id))
    except NotFound:
        raise
    except OperatorError as error:
        words = f"{error}; removal of {removal.name} continues on a gateway: repeat the command to follow it"
        raise OperatorError(words) from error


def _show(plan: RemovalPlan) -> None:
    names = plan.names
    rows = [
        *(("task", task) for task in (names.task,) if task),
        *(("architecture", name) for name in names.architectures),
        *(("variant", name) for name in names.variants),
        *(("topic", topic) for topic in plan.topics),
        *(("file", sha256) for sha256 in plan.files),
    ]
    show(table(("removed", "name"), rows))
    if plan.begun:
        show("Its removal has begun: run the command without --dry-run to resume it.")
    elif plan.uses:
        show(table(("in use, so it needs --force",), [(use,) for use in plan.uses]))
