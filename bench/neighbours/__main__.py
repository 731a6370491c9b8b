"""Measure a good tenant beside a harmful one: `python -m bench.neighbours [--signed] [--harms NAME,...]`.

The exit code is 0 only if 99 % of the good tenant's queries are answered in time. The harmful tenant runs in processes
of its own at a lower priority, because it stands for other machines.
"""

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.core.system import SystemUnderTest, infaas, running_at
from bench.neighbours.harms import ARGUMENTS, HARMS
from bench.neighbours.tenant import RATE, TASK, Outcome, TenantClient, ask_steadily
from process.subprocesses import running

_SHARE: Final = 0.99
_NICE: Final = 10
_SETTLE_S: Final = 5.0
_FLAGS: Final = ("--workers=2", "--selectors=2", "--oversubscribe")


def main() -> None:
    """Parse the command line, measure alone and beside the harmful tenant, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours")
    parser.add_argument(
        "--signed", action="store_true", help="both tenants sign, and unsigned tenant names are refused"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of each measurement")
    parser.add_argument("--harms", default="", help="parts of names of harms, joined by commas; default: all")
    parser.add_argument("--each", action="store_true", help="also each harm alone")
    arguments = parser.parse_args()
    chosen = [name for name in HARMS if any(part in name for part in arguments.harms.split(","))]
    rounds = [[], *([[name] for name in chosen] if arguments.each else []), chosen]
    outcomes = asyncio.run(_run(rounds, arguments.seconds, signed=arguments.signed))
    Console(width=None if sys.stdout.isatty() else 180).print(_table(outcomes))
    sys.exit(outcomes[-1][1].share < _SHARE)


async def _run(rounds: list[list[str]], seconds: float, *, signed: bool) -> list[tuple[str, Outcome]]:
    outcomes: list[tuple[str, Outcome]] = []
    with tempfile.TemporaryDirectory(prefix="infaas-neighbours-") as folder:
        async with _system(Path(folder), signed=signed) as (system, good, wrong):
            await ask_steadily(good, 200, "warm")
            for number, harms in enumerate(rounds):
                async with _harmed(harms, wrong, system):
                    outcome = await ask_steadily(good, round(seconds * RATE), f"{number}")
                outcomes.append((", ".join(harms) or "alone", outcome))
    return outcomes


@asynccontextmanager
async def _system(home: Path, *, signed: bool) -> AsyncGenerator[tuple[SystemUnderTest, TenantClient, TenantClient]]:
    env: dict[str, str] = {}
    if signed:
        secret = home / "signing-secret"
        secret.write_text(secrets.token_hex(32))
        env = {"INFAAS_SIGNING_SECRET_FILE": str(secret), "INFAAS_SELECTOR_TENANT_HEADERS": "refused"}
        os.environ.update(env)  # the commands need it as well
    async with running_at(home / "home", "apache", TASK, flags=_FLAGS, env=env) as system:
        keys = {"good": "", "wrong": ""}
        if signed:
            for name in keys:
                await infaas(system.home, "tenants", "create", name)
                keys[name] = (await infaas(system.home, "tenants", "key", name)).strip()
        good, wrong = (TenantClient(name, system.kafka.bootstrap, key) for name, key in keys.items())
        yield system, good, wrong


@asynccontextmanager
async def _harmed(harms: list[str], wrong: TenantClient, system: SystemUnderTest) -> AsyncGenerator[None]:
    """Run the harms of the harmful tenant, each in a process of its own, while the context is open."""
    async with AsyncExitStack() as stack:
        processes: dict[str, asyncio.subprocess.Process] = {}
        for name in harms:
            env = {**os.environ, ARGUMENTS: json.dumps([name, wrong.name, wrong.kafka, wrong.key, system.gateway])}
            command = ["nice", "-n", f"{_NICE}", sys.executable, "-m", "bench.neighbours.harms"]
            log = system.home / "logs" / f"harm-{name.replace(' ', '-')}.log"
            processes[name] = await stack.enter_async_context(running(command, log, env=env))
        await asyncio.sleep(_SETTLE_S if harms else 0.0)
        yield
        for name, process in processes.items():
            if process.returncode is not None:
                raise RuntimeError(f"{name} ended unexpectedly; see {system.home / 'logs'}")


def _table(outcomes: list[tuple[str, Outcome]]) -> Table:
    table = Table("beside", "asked", "in time", "share", "p50 ms", "p99 ms", "p99 of stages, ms", "results")
    for name, one in outcomes:
        statuses = ", ".join(f"{status} {count}" for status, count in sorted(one.statuses.items()))
        cells = (f"{one.asked}", f"{one.in_time}", f"{one.share:.2%}", f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}")
        stages = ", ".join(f"{stage} {ms:.0f}" for stage, ms in one.stages_ms.items())
        table.add_row(name, *cells, stages, statuses)
    return table


if __name__ == "__main__":
    main()
