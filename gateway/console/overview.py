"""The overview: each task with its load and answers, the workers, and the last decisions.

A tenant sees the tasks that it may query, without the load, which is that of all tenants.
"""

from typing import Any, Final

from admin.catalog import tasks
from admin.overview import overview
from gateway.console.page import Page, page_of
from gateway.console.visit import Visit

_SECONDS: Final = 60
_PLACES: Final = 8
"""Number of decisions shown."""


async def _load(visit: Visit) -> dict[str, Any]:
    shown = visit.number("tasks", 1), visit.number("workers", 1)
    if not visit.is_admin:
        listed, place = page_of("tasks", await visit.call(tasks), shown[0])
        return {"found": None, "tasks": listed, "tasks_range": place}
    found = await visit.call(overview, seconds=_SECONDS)
    loads = {one.task: one for one in found.tasks}
    names = sorted({row.name for row in await visit.call(tasks)} | loads.keys())
    of_tasks, tasks_range = page_of("tasks", [(name, loads.get(name)) for name in names], shown[0])
    workers, workers_range = page_of("workers", found.workers, shown[1])
    return {
        "found": found,
        "tasks": of_tasks,
        "tasks_range": tasks_range,
        "workers": workers,
        "workers_range": workers_range,
        "decisions": found.decisions[:_PLACES],
    }


PAGES: Final = (
    Page(
        path="/console",
        title="Overview",
        template="overview.html",
        load=_load,
        live=("problems", "tasks", "workers", "decisions"),
        menu="Overview",
    ),
)
