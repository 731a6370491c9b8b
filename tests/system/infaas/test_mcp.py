"""Tests of tasks as tools, by the official client of the Model Context Protocol."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from process.sockets import free_port
from tests.doc_commands import documented_commands
from tests.system.infaas.conftest import Cli
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.needs_minutes

BY_STDIN, BY_PORT = documented_commands("docs/mcp.md#0")


async def check_tools(client: Client, task: str) -> None:
    """Check the tool of a task of texts: its description, answers, and refusals."""
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    tool = listed[task]
    assert tool.input_schema["required"] == ["text"]
    assert "min_accuracy" in tool.input_schema["properties"]["needs"]["properties"]
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint
    needs: dict[str, Any] = {"min_accuracy": 0.5, "allow_late": True}
    result = await client.call_tool(task, {"text": "a wonderful film", "needs": needs})
    assert not result.is_error, result.content
    found = result.structured_content
    assert found is not None
    assert found["variant"] == f"{task}-cnn.onnx-fp32.cpu"
    assert 0.5 <= found["accuracy"] <= 1
    assert found["outputs"]["label"] in (["positive"], ["negative"]), "the best class"
    refused = await client.call_tool(task, {"text": "a", "needs": {"min_accuracy": 0.9999}})
    assert refused.is_error
    assert "unsatisfiable" in str(refused.content)
    wrong = await client.call_tool(task, {"words": "a"})
    assert wrong.is_error
    unknown = await client.call_tool("nothing", {})
    assert unknown.is_error


@asynccontextmanager
async def over_http(cli: Cli) -> AsyncGenerator[str]:
    """Run the documented server on a free port while the context is open; yield its URL."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}/mcp"
    process = await cli.start(*(word.replace("8765", port) for word in BY_PORT), INFAAS_LOG_LEVEL="INFO")

    async def answers() -> bool:
        try:
            async with aiohttp.request("GET", url) as answer:
                return answer.status > 0
        except aiohttp.ClientError:
            return False

    try:
        await until(answers)
        yield url
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()


async def test_agents_call_tasks_as_tools(shared: Cli) -> None:
    task = f"films-{uuid4().hex[:6]}"
    await shared.state()
    await shared.register_texts(task, name=f"{task}-cnn")
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "infaas.cli.main", *BY_STDIN], env=shared.environment()
    )
    async with asyncio.timeout(PATIENCE_S), Client(stdio_client(command)) as client:
        await check_tools(client, task)
    async with over_http(shared) as url, asyncio.timeout(PATIENCE_S), Client(url) as client:
        await check_tools(client, task)
        async with aiohttp.request("POST", url, headers={"Origin": "http://evil.example"}, json={}) as answer:
            assert answer.status == 403, "a page that was loaded from elsewhere may not call tools"
