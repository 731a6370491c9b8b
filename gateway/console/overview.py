"""The overview: each task with its load and answers, the workers, and the last decisions.

A tenant sees the tasks that it may query, without the load, which is that of all tenants.
"""

from typing import Any, Final

from admin.catalog import tasks
from admin.overview import overview
from admin.registrations import model as register
from gateway.console.page import Page, paged
from gateway.console.visit import Visit

_SECONDS: Final = 60
_PLACES: Final = 8
"""Number of decisions shown."""


async def _load(visit: Visit) -> dict[str, Any]:
    publishes = visit.may(register)
    if not visit.is_admin:
        return {"found": None, "publishes": publishes, **paged(visit, "tasks", await visit.call(tasks))}
    found = await visit.call(overview, seconds=_SECONDS)
    loads = {one.task: one for one in found.tasks}
    names = sorted({row.name for row in await visit.call(tasks)} | loads.keys())
    return {
        "found": found,
        "publishes": publishes,
        **paged(visit, "tasks", [(name, loads.get(name)) for name in names]),
        **paged(visit, "workers", found.workers),
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
