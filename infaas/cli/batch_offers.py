"""Lookup of the variants that can compute a batch job."""

from pathlib import Path

from infaas.batch.plan import Offer, find_offers
from infaas.cli.connect import find_database
from schemas.errors import UnknownTask
from schemas.rows.catalog import Task
from security.access import includes, users_by_name
from store.catalog import load_catalog
from store.placement import list_instances, list_workers
from store.pool import open_pool


async def look_up(home: Path, name: str) -> tuple[Task, list[Offer]]:
    """Return a task and the variants that may compute it: only public ones, since a job has no tenant.

    Raises:
        UnknownTask: there is no such task that is public.
    """
    async with open_pool(find_database(home), max_size=1) as pool:
        catalog = await load_catalog(pool)
        workers, instances = await list_workers(pool), await list_instances(pool)
    users = users_by_name(catalog.access, catalog.architectures.values())
    task = catalog.tasks.get(name)
    if task is None or not includes(users.get(name), None):
        raise UnknownTask(f"no task is called {name!r}; `infaas tasks` lists the tasks")
    usable = [row for row in catalog.variants.values() if includes(users.get(row.architecture), None)]
    return task, find_offers(task.name, usable, catalog.profiles, workers, instances)
