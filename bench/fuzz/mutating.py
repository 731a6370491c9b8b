"""Run of mutated requests against a gateway: each must get an answer, or an error in JSON that names the mistake."""

import asyncio
import json
import time
from collections import Counter
from itertools import islice
from math import inf
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

from bench.fuzz.mutations import Mutant, mutants
from schemas.errors import Internal
from schemas.oip import decode_response
from schemas.result import ErrorBody

ANSWERED: Final = frozenset({200, 400, 403, 404, 413, 415, 417, 422, 429, 503, 504})
"""Allowed statuses of an answer to a query; 500 is not allowed."""
_AT_ONCE: Final = 8
_MOST_FAILURES: Final = 20
_LATEST_S: Final = 60.0


class MutationReport(NamedTuple):
    """Result of a run."""

    requests: int
    statuses: dict[int, int]
    failures: list[str]
    """Requests with a wrong answer, and that answer; the first few."""


async def mutate_http(url: str, seed: int, *, seconds: float = inf, most: int | None = None) -> MutationReport:
    """Send mutated requests to the models at `url` for `seconds`, or until `most` are sent."""
    end, statuses, failures = time.monotonic() + seconds, Counter[int](), list[str]()
    async with ClientSession(timeout=ClientTimeout(total=_LATEST_S)) as http:
        made = islice(mutants(await _described(http, url), Random(seed)), most)

        async def send_many() -> None:
            for mutant in made:
                status, problem = await _send(http, url, mutant)
                statuses[status] += 1
                if problem:
                    failures.append(f"{status} {problem}: {mutant.model} {mutant.headers} {mutant.body[:1000]!r}")
                if time.monotonic() > end or len(failures) >= _MOST_FAILURES:
                    return

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(send_many())
    return MutationReport(statuses.total(), dict(sorted(statuses.items())), failures)


async def _described(http: ClientSession, url: str) -> list[dict[str, Any]]:
    async with http.post(f"{url}/v2/repository/index", json={"ready": True}) as response:
        names = sorted({model["name"] for model in await response.json()})
    found: list[dict[str, Any]] = []
    for name in names:
        async with http.get(f"{url}/v2/models/{name}") as response:
            found.append(await response.json())
    return found


async def _send(http: ClientSession, url: str, mutant: Mutant) -> tuple[int, str]:
    """Send a mutant. Returns the status of the answer, and its fault, or an empty string."""
    path = f"{url}/v2/models/{mutant.model}/infer"
    try:
        async with http.post(path, data=mutant.body, headers=mutant.headers) as response:
            body, length = await response.read(), response.headers.get("Inference-Header-Content-Length")
            return response.status, _problem(response.status, body, length)
    except (ClientError, TimeoutError) as error:
        return 0, f"no answer ({error!r})"


def _problem(status: int, body: bytes, json_length: str | None) -> str:
    if status not in ANSWERED:
        return f"undocumented, {body[:200]!r}"
    try:
        if status == 200:
            decode_response(body, None if json_length is None else int(json_length))
        elif not msgspec.json.decode(body, type=ErrorBody).error:
            return "the error is empty"
    except (msgspec.MsgspecError, Internal, json.JSONDecodeError) as error:
        return f"unreadable ({error}), {body[:200]!r}"
    return ""
