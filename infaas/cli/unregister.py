"""`infaas unregister`: a variant, a model or a task goes, with its queries answered, its topics, files and rows."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from infaas.cli.building import artifact_store, exchange_store
from infaas.cli.connect import DEFAULT_HOME, Home, Json, act_here, find_database, find_kafka, with_database
from infaas.cli.output import err, show, show_json, table
from infaas.cli.register import ProgressBar
from registry.removal.removal_plan import RemovalPlan, plan_removal
from registry.removal.unregister import RemovalReport, RemovalRequest
from registry.removal.unregister import unregister as unregister_name
from schemas.rows.audit import AuditVerb
from store.audit import audited
from store.pool import open_pool


def unregister(
    name: Annotated[str, typer.Argument(help="A variant, a model, a version (MODEL@2), or a task with all of it.")],
    force: Annotated[bool, typer.Option("--force", help="Though it is used.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and whether it is used.")] = False,
    drain_timeout: Annotated[
        float, typer.Option(min=1, help="Longest wait, in seconds, for workers and selectors to answer what they have.")
    ] = RemovalRequest(name="").drain_timeout_s,
    results_grace: Annotated[
        float, typer.Option(min=0, help="Seconds for which results of a task can be read before they go.")
    ] = RemovalRequest(name="").results_grace_s,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Unregister a variant, a model or a task. Its queries are answered first. Goes on where it was cut off."""
    if dry_run:
        plan = with_database(home, lambda pool: plan_removal(pool, artifact_store(home), name))
        return show_json(plan) if as_json else _show(plan)
    request = RemovalRequest(
        name=name, force=force, drain_timeout_s=drain_timeout, results_grace_s=results_grace
    )  # fmt: skip
    report = asyncio.run(_unregister(request, home))
    if as_json:
        return show_json(report)
    if report is None:
        return err.print(f"{name} was unregistered by somebody else meanwhile")
    gone = report.plan
    return err.print(
        f"{name} is gone: {len(gone.names.variants)} variant(s), {len(gone.topics)} topic(s), {len(gone.files)} "
        f"file(s); {report.moved} waiting queries went back to the task"
    )


async def _unregister(request: RemovalRequest, home: Path) -> RemovalReport | None:
    postgres, kafka, stores = find_database(home), find_kafka(home), (artifact_store(home), exchange_store(home))
    act = act_here(AuditVerb.UNREGISTER, request.name, force=request.force)
    async with open_pool(postgres, max_size=2) as pool, audited(pool, act):
        with ProgressBar() as bar:
            return await unregister_name(request, pool, postgres, kafka, *stores, bar)


def _show(plan: RemovalPlan) -> None:
    names = plan.names
    rows = [
        *(("task", task) for task in (names.task,) if task),
        *(("architecture", name) for name in names.architectures),
        *(("variant", name) for name in names.variants),
        *(("topic", topic) for topic in plan.topics),
        *(("file", sha256) for sha256 in plan.files),
    ]
    show(table(("goes", "name"), rows))
    if plan.begun:
        show("Its removal was begun: run it without --dry-run to go on.")
    elif plan.uses:
        show(table(("used, so it needs --force",), [(use,) for use in plan.uses]))
