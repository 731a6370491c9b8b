"""Fuzz a gateway with a whole system behind it: `python -m tests.fuzz [--minutes N] [--seed N] [--url URL]`.

Without a URL it starts a system of its own, with tasks of the zoo. The exit code is 0 only if every answer conforms to
the published document, and no process ended or logged a defect.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.core.system import SystemUnderTest, running_system
from infaas.up.state import read_state
from tests.fuzz.http_fuzzing import FuzzReport, fuzz_http
from tests.fuzz.mutations import MutationReport, mutate_http

_TASKS: Final = ("digits", "sentiment-text")
_DEFECT: Final = "Traceback (most recent call last)"


def main() -> None:
    """Parse the command line, fuzz, and print the failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", help="URL of a running gateway; default: a new system")
    arguments = parser.parse_args()
    console, seconds = Console(), round(60 * arguments.minutes)
    defects = list[str]()
    if arguments.url:
        made, mutated = asyncio.run(_fuzz(arguments.url.rstrip("/"), seconds, arguments.seed))
    else:
        made, mutated, defects = asyncio.run(_fuzz_own(seconds, arguments.seed))
    for line in [made.output, *mutated.failures, *defects]:
        console.print(line, markup=False, highlight=False)
    console.print(
        f"made from the document: {made.requests:,} to {made.operations} operations, {made.failures} failures"
    )
    console.print(f"mutated: {mutated.requests:,}, {len(mutated.failures)} failures; statuses {mutated.statuses}")
    sys.exit(bool(made.failures or mutated.failures or defects))


async def _fuzz(url: str, seconds: int, seed: int) -> tuple[FuzzReport, MutationReport]:
    each_s = max(seconds // 2, 1)
    return await fuzz_http(url, seed, seconds=each_s), await mutate_http(url, seed, seconds=each_s)


async def _fuzz_own(seconds: int, seed: int) -> tuple[FuzzReport, MutationReport, list[str]]:
    async with running_system("apache", *_TASKS) as system:
        before = _processes(system)
        made, mutated = await _fuzz(system.gateway, seconds, seed)
        after = _processes(system)
        ended = [f"{name} has ended and was started again" for name, pid in before.items() if after.get(name) != pid]
        return made, mutated, ended + _logged(system)


def _processes(system: SystemUnderTest) -> dict[str, int]:
    state = read_state(system.home)
    return {name: service.pid for name, service in state.services.items()} if state else {}


def _logged(system: SystemUnderTest) -> list[str]:
    """Return the defects that any process has logged."""
    return [
        f"{log.name}: {text[text.index(_DEFECT) :][:2000]}"
        for log in sorted(Path(system.home).rglob("*.log"))
        if _DEFECT in (text := log.read_text(errors="replace"))
    ]


if __name__ == "__main__":
    main()
