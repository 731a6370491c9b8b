"""Tasks that can be queried while other variants are still registered: those with a variant that is ready."""

from collections.abc import Callable, Collection

from store.catalog import CatalogWatcher


async def watch_tasks(postgres: str, tasks: Collection[str], ready: Callable[[str], None]) -> None:
    """Call `ready` with the name of each task as soon as it has a variant; return after the last one.

    Raises:
        StoreUnavailable: Postgres cannot be reached at the start.
    """
    left = set(tasks)
    async with CatalogWatcher(postgres) as watcher:
        catalog = watcher.current
        while True:
            for task in sorted(left.intersection(variant.task for variant in catalog.variants.values())):
                left.discard(task)
                ready(task)
            if not left:
                return
            catalog = await watcher.changed()
