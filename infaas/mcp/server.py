"""Server of the Model Context Protocol by the official package: a tool for each task that the caller may query.

Each request lists the tasks, so that tools appear and vanish with them. A refused query is a result that is
marked as an error, in the words that other clients get, so that an agent can change its needs or wait.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import mcp_types as types
import orjson
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from infaas.client.client import InfaasClient
from infaas.mcp.arguments import description, input_schema, needs_of, output_schema, structured, tensors_of
from process.sockets import LOOPBACK
from process.version import version
from schemas.errors import InfaasError, QueryError, UnknownTask
from schemas.rows.catalog import Task

log = logging.getLogger(__name__)

_INSTRUCTIONS: Final = (
    "Each tool is an inference task. State needs (latency, accuracy, cost) instead of a model: the system picks the "
    "variant and names it in the result. An error `overloaded` says when to try again; `unsatisfiable` names the "
    "nearest that exists."
)
_NO_HINTS: Final = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_HTTP_BODY: Final = 16 * 1024 * 1024
"""Maximum bytes of a request over HTTP, for images in base64."""
_DRAIN_S: Final = 5
_MOST_CALLS: Final = 64
"""Calls that are executed at once; further ones wait."""


class TaskTools:
    """Tools of one system."""

    def __init__(self, client: InfaasClient, list_tasks: Callable[[], Awaitable[Sequence[Task]]]) -> None:
        self._client = client
        self._list_tasks = list_tasks
        self._tasks: dict[str, Task] = {}
        self._places = asyncio.Semaphore(_MOST_CALLS)

    def server(self) -> Server[Any]:
        """Return the server of these tools."""
        return Server(
            "infaas",
            version=version(),
            instructions=_INSTRUCTIONS,
            on_list_tools=self._on_list,
            on_call_tool=self._on_call,
        )

    async def _on_list(self, _context: Any, _parameters: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(task) for task in (await self._known()).values()])

    async def _on_call(self, _context: Any, call: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            return _result(await self._ask(call.name, call.arguments or {}))
        except InfaasError as error:
            return _failure(error)

    async def _ask(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        task = self._tasks.get(name) or (await self._known()).get(name)
        if task is None:
            raise UnknownTask(f"no task is called {name[:80]!r}; there are {', '.join(self._tasks) or 'none'}")
        inputs, needs = tensors_of(task, arguments), needs_of(task, arguments)
        async with self._places:
            return structured(await self._client.infer(name, inputs, **needs))

    async def _known(self) -> dict[str, Task]:
        self._tasks = {task.name: task for task in await self._list_tasks() if not task.removing}
        return self._tasks


async def serve_stdio(tools: TaskTools) -> None:
    """Serve the process that started this one, until it closes stdin."""
    server = tools.server()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


async def serve_http(tools: TaskTools, port: int) -> None:
    """Serve streamable HTTP on loopback, at `/mcp`, until SIGTERM or SIGINT.

    The package refuses requests of web pages that were loaded from elsewhere (DNS rebinding).
    """
    app = tools.server().streamable_http_app(host=LOOPBACK, json_response=True, max_request_body_size=_HTTP_BODY)
    config = uvicorn.Config(
        app, LOOPBACK, port, log_config=None, access_log=False, timeout_graceful_shutdown=_DRAIN_S, lifespan="on"
    )
    log.info("serving MCP at http://%s:%d/mcp", LOOPBACK, port)
    await uvicorn.Server(config).serve()


def _tool(task: Task) -> types.Tool:
    return types.Tool(
        name=task.name,
        description=description(task),
        input_schema=input_schema(task),
        output_schema=output_schema(task),
        annotations=_NO_HINTS,
    )


def _result(found: dict[str, Any]) -> types.CallToolResult:
    text = types.TextContent(type="text", text=orjson.dumps(found).decode())
    return types.CallToolResult(content=[text], structured_content=found)


def _failure(error: InfaasError) -> types.CallToolResult:
    words = str(error)
    if isinstance(error, QueryError):
        again = "" if error.retry_after_s is None else f" (try again in {error.retry_after_s:.1f} s)"
        words = f"{error.code.value}: {error}{again}"
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)], is_error=True)
