"""`infaas status` of a remote system, as reported by its gateway."""

import asyncio
import time
from pathlib import Path
from typing import Final

from rich.table import Table

from infaas.cli.connect import gateway_url
from infaas.cli.control import asking
from infaas.cli.output import plain, show, show_json
from infaas.client.http_transport import without_user
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.system import SYSTEM, SystemReport

_CHECK_INTERVAL_S: Final = 0.5


def show_remote_status(home: Path, until: float, *, as_json: bool) -> bool:
    """Print the status once there are no problems, at the latest at `until`; returns true if there are none."""
    report = asyncio.run(_report_when_well(home, until))
    show_json(report) if as_json else show(_facts(report))
    return not report.problems


async def _report_when_well(home: Path, until: float) -> SystemReport:
    async with asking(home) as ask:
        report = await ask(SYSTEM, Empty())
        while report.problems and time.monotonic() < until:
            await asyncio.sleep(_CHECK_INTERVAL_S)  # polled: a gateway sends no events
            report = await ask(SYSTEM, Empty())
        return report


def _facts(report: SystemReport) -> Table:
    grid = Table.grid(padding=(0, 2))
    instances = ", ".join(f"{count} {state}" for state, count in sorted(report.instances.items())) or "none"
    wanted = "" if report.workers_wanted is None else f", {report.workers_wanted} wanted"
    for what, fact in (
        ("gateway", f"{without_user(gateway_url())}, version {report.version}"),
        ("models", f"{report.tasks} tasks, {report.models} models, {report.variants} variants"),
        ("workers", f"{report.workers}{wanted}{', scaling is paused' if report.paused else ''}"),
        ("instances", instances),
        ("jobs", f"{report.jobs} not ended"),
        *(("problem", problem) for problem in report.problems),
    ):
        grid.add_row(f"[bold]{what}[/]", plain(fact))
    return grid
