"""Tests of the compiled HTTP load client: its schedule, counts and latencies."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from aiohttp import web

from bench.load.http_load import HttpLoad, LoadShape, compile_client
from bench.load.http_message import HttpRequest
from process.sockets import LOOPBACK, free_port

pytestmark = pytest.mark.needs_compiler

REQUESTS = [HttpRequest("/", {}, body) for body in (b"first", b"second")]
OPEN = LoadShape(seconds=1.0, connections=4, rate=200.0, objective_ms=30_000.0, drain_s=30.0)


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    return asyncio.run(compile_client(tmp_path_factory.mktemp("client")))


class Server:
    """HTTP server that echoes request bodies; its attributes change status, encoding and timing."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        self.chunked = False
        self.closes = False
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.set()
        await self.answers.wait()
        if not self.chunked:
            response = web.Response(body=body, status=self.status)
            if self.closes:
                response.force_close()
            return response
        stream = web.StreamResponse()
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        for at in range(len(body)):
            await stream.write(body[at : at + 1])
        await stream.write_eof()
        return stream


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    made = Server()
    app = web.Application()
    app.add_routes([web.post("/", made.answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


async def test_open_loop_follows_schedule_and_separates_requests(client: Path, server: Server) -> None:
    load = HttpLoad(client, server.port, REQUESTS)
    seen = await load.run(OPEN)
    assert 100 < seen.sent < 300  # a Poisson process with a mean of 200
    assert seen.answered == seen.in_time == seen.sent == seen.statuses[200]
    assert sum(kind.sent for kind in seen.kinds) == seen.sent
    assert all(kind.sent > 0 for kind in seen.kinds)
    assert {sample.request for sample in load.samples} == {0, 1}
    assert all(sample.answer.body == REQUESTS[sample.request].body for sample in load.samples)


async def test_open_loop_is_reproducible_for_a_seed(client: Path, server: Server) -> None:
    load = HttpLoad(client, server.port, REQUESTS)
    assert (await load.run(OPEN)).kinds == (await load.run(OPEN)).kinds


@pytest.mark.parametrize("way", ["chunked", "closes"])
async def test_closed_loop_continues_after_chunked_and_closed_answers(client: Path, server: Server, way: str) -> None:
    setattr(server, way, True)
    load = HttpLoad(client, server.port, REQUESTS)
    seen = await load.run(LoadShape(seconds=2.0, connections=2, drain_s=30.0))
    assert seen.answered == seen.sent > 2
    assert seen.broken == 0
    assert all(sample.answer.body == REQUESTS[sample.request].body for sample in load.samples)


async def test_http_load_counts_refusals_apart_from_answers(client: Path, server: Server) -> None:
    server.status = 503
    seen = await HttpLoad(client, server.port, REQUESTS).run(OPEN)
    assert seen.answered == 0
    assert seen.refused == seen.statuses[503] == seen.sent


async def test_http_load_counts_unanswered_requests(client: Path, server: Server) -> None:
    server.answers.clear()
    load = HttpLoad(client, server.port, REQUESTS)
    seen = await load.run(LoadShape(seconds=0.2, connections=1, rate=100.0, drain_s=0.1))
    assert seen.unanswered == seen.sent > 0
    assert load.samples == []
    server.answers.set()


async def test_http_load_measures_latency_from_due_time(client: Path, server: Server) -> None:
    server.answers.clear()
    async with asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(HttpLoad(client, server.port, REQUESTS).run(OPEN))
        await server.asked.wait()  # the client needs time to start
        asyncio.get_running_loop().call_later(0.5, server.answers.set)
    seen = loading.result()
    assert seen.max_ms > 400.0  # the first requests were due while the server held its answers
    assert seen.answered == seen.sent


async def test_http_load_counts_connection_failures_as_broken(client: Path) -> None:
    seen = await HttpLoad(client, free_port(), REQUESTS).run(LoadShape(seconds=0.1, connections=1, drain_s=0.1))
    assert seen.answered == 0
    assert seen.broken > 0
