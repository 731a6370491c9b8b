"""All pages and acts of the console, in the order of the menu."""

from typing import Final

from gateway.console import access, dead_letters, jobs, models, overview, scale, task
from gateway.console.page import Act, Page

PAGES: Final[tuple[Page, ...]] = (
    *overview.PAGES,
    *task.PAGES,
    *models.PAGES,
    *scale.PAGES,
    *jobs.PAGES,
    *dead_letters.PAGES,
    *access.PAGES,
)
ACTS: Final[tuple[Act, ...]] = (*models.ACTS, *scale.ACTS, *jobs.ACTS, *dead_letters.ACTS, *access.ACTS)
