"""Counts of the workers of a system, from their pages of metrics."""

import re
from collections import Counter
from typing import Any, Final

import aiohttp

_DRAFTS: Final = re.compile(r'^infaas_worker_tokens_total\{kind="draft".*?\} (\S+)$', re.MULTILINE)
_ENDED: Final = re.compile(r'^infaas_worker_queries_total\{code="(\w+)".*?\} (\S+)$', re.MULTILINE)


async def ended_with(state: Any) -> Counter[str]:
    """Return the answers of all workers by the code of their end."""
    ended = Counter[str]()
    for page in await _read_metrics(state):
        for code, count in _ENDED.findall(page):
            ended[code] += int(float(count))
    return ended


async def _read_metrics(state: Any) -> list[str]:
    """Return the page of metrics of each worker."""
    pages = list[str]()
    async with aiohttp.ClientSession() as http:
        for name, service in state["services"].items():
            if name.startswith("worker-"):
                async with http.get(service["metrics"]) as page:
                    pages.append(await page.text())
    return pages


async def drafts_of(state: Any) -> int:
    """Return the tokens of the drafts that all workers have discarded."""
    found = await _read_metrics(state)
    return sum(int(float(count)) for page in found for count in _DRAFTS.findall(page))
