"""Tests of the server of tools, by the official client in one process."""

from typing import Any, cast

from mcp import Client

from infaas.client.client import InfaasClient
from infaas.mcp.server import TaskTools
from schemas.errors import Overloaded
from schemas.rows.catalog import Task
from schemas.trace_context import current_traceparent
from tests.example_rows import a_task

TRACEPARENT = f"00-{'7' * 32}-{'5' * 16}-01"


class RefusingClient:
    """Client whose queries are refused; it keeps the trace context that each would send."""

    def __init__(self) -> None:
        self.sent = list[str]()

    async def infer(self, _task: str, _inputs: object, **_options: Any) -> object:
        self.sent.append(current_traceparent())
        raise Overloaded(retry_after_s=2.0)


async def test_query_of_a_tool_continues_the_trace_of_its_call() -> None:
    async def tasks() -> list[Task]:
        return [a_task("digits")]

    refusing = RefusingClient()
    async with Client(TaskTools(cast(InfaasClient, refusing), tasks).server()) as client:
        for meta in ({"traceparent": TRACEPARENT}, None):
            refused = await client.call_tool("digits", {"x": [0.0] * 4}, meta=cast(Any, meta))
            assert "try again in 2.0 s" in str(refused.content)
    assert refusing.sent == [TRACEPARENT, ""]
