"""Test of the tasks that have a variant while others are registered."""

import asyncio

from infaas.up.ready_tasks import watch_tasks
from store.pool import Pool
from tests.example_rows import register


async def test_watch_tasks_reports_each_task_once(store_pool: Pool, database: str) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu", task="digits")
    found: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch_tasks(database, ("digits", "mnist", "sentiment"), found.put_nowait))
        assert await found.get() == "digits"
        await register(store_pool, "cnn.onnx-fp32.cpu", task="digits")
        await register(store_pool, "linear.onnx-fp32.cpu", task="mnist")
        assert await found.get() == "mnist"
        await register(store_pool, "fast.onnx-fp32.cpu", task="sentiment")
        assert await found.get() == "sentiment"
    assert found.empty()
