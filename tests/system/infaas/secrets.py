"""Search of everything that a running system writes or shows for secrets."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil

from schemas.defaults import LOOPBACK
from tests.processes import output_of
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import page

COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("audit", "--json"),
    ("scale", "status", "--json"),
    ("keys", "list", "--json"),
    ("tenants", "list", "--json"),
    ("up",),  # refused, because a system runs
    ("query", "no-such-task", "x"),
)


async def places_that_show(cli: Cli, state: Any, planted: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return the names of files, processes, pages and commands that contain one of these texts.

    `env` holds the texts where services look for them. Every searched place must have some content.
    """
    searched = _files(cli) | _processes(state["pid"]) | await _pages(state) | await _commands(cli, env)
    assert not [name for name, text in searched.items() if not text]
    return [name for name, text in searched.items() if any(secret in text for secret in planted)]


def _files(cli: Cli) -> dict[str, str]:
    logs = [*cli.home.rglob("*.log"), *cli.home.rglob("logs/*")]
    texts = {str(path): path.read_text(errors="replace") for path in logs if path.is_file()}
    return {name: text for name, text in texts.items() if text}


def _processes(supervisor: int) -> dict[str, str]:
    parent = psutil.Process(supervisor)
    lines: dict[str, str] = {}
    for one in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended, as processes of Postgres connections do
            lines[f"process {one.pid}"] = " ".join(one.cmdline())
    return {name: line for name, line in lines.items() if line}


async def _pages(state: Any) -> dict[str, str]:
    urls = [service[page] for service in state["services"].values() for page in ("metrics", "health")]
    return {url: await page(url) for url in (*urls, f"{state['gateway']}/metrics", f"{state['gateway']}/v2")}


async def _commands(cli: Cli, env: Mapping[str, str]) -> dict[str, str]:
    dsn = env["INFAAS_POSTGRES"]
    away, unreadable = f"{dsn.rpartition('@')[0]}@{LOOPBACK}:1/infaas", dsn.replace("@", "/@")
    told = await asyncio.gather(
        *(cli.run(*words) for words in COMMANDS),
        *(cli.run("tasks", INFAAS_POSTGRES=wrong) for wrong in (away, unreadable)),
        output_of("-m", "gateway.jobs", "--check", env=env),
    )
    names = [*map(" ".join, COMMANDS), "tasks, Postgres away", "tasks, no DSN", "jobs --check"]
    texts = {name: "".join(map(str, shown)) for name, shown in zip(names, told, strict=True)}
    assert "webhook_secret" in texts["jobs --check"], "it prints all settings"
    return texts
