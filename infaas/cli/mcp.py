"""`infaas mcp`: the tasks of a system as tools of the Model Context Protocol."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from admin.api import Empty
from admin.catalog import tasks
from infaas.cli.admin_client import asking
from infaas.cli.connect import DEFAULT_HOME, Home, find_gateway
from infaas.client.client import InfaasClient
from schemas.errors import OperatorError


def mcp(
    home: Home = DEFAULT_HOME,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve HTTP at http://127.0.0.1:PORT/mcp, not stdin and stdout."),
    ] = None,
) -> None:
    """Offer each task as a tool to agents that speak the Model Context Protocol."""
    asyncio.run(_serve(home, port))


async def _serve(home: Path, port: int | None) -> None:
    try:
        from infaas.mcp.server import TaskTools, serve_http, serve_stdio
    except ImportError as error:
        raise OperatorError(f"`infaas mcp` needs {error.name}: pip install 'infaas[mcp]'") from None
    async with InfaasClient(gateway=find_gateway(home)) as client, asking(home) as ask:
        tools = TaskTools(client, lambda: ask(tasks, Empty()))
        await (serve_stdio(tools) if port is None else serve_http(tools, port))
