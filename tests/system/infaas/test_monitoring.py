"""Tests of what a system tells of itself: to a real Prometheus with our dashboard and alert rules, and by traces."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from process.sockets import free_port
from tests.otlp_receiver import OtlpReceiver, exporting_to, otlp_receiver
from tests.system.infaas.conftest import Cli
from tests.system.infaas.dashboard import MONITORING, panel_queries, task_variable, values_of, write_page
from tests.system.infaas.traced_queries import check_traces
from tests.waiting import read_until, until

pytestmark = pytest.mark.needs_prometheus

PAGE: Final = os.environ.get("DASHBOARD_VALUES")
"""File to which the values under load are written."""
CLIENTS: Final = 8 if PAGE else 1
LOAD_S: Final = 60.0 if PAGE else 0.0
TRACE: Final = "7" * 32
_IMAGE: Final = {"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
STOP_S: Final = 30


@asynccontextmanager
async def prometheus(http: aiohttp.ClientSession, folder: Path, targets: list[str]) -> AsyncGenerator[str]:
    """Run Prometheus with our rules; yield its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    shutil.copy(MONITORING / "rules.yml", folder)
    jobs = [{"job_name": "infaas", "static_configs": [{"targets": targets}]}]
    times = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    config = {"global": times, "rule_files": ["rules.yml"], "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    flags = (
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--enable-feature=exemplar-storage",
    )
    process = await asyncio.create_subprocess_exec(program, *flags, f"--web.listen-address={address}")

    async def ready() -> bool:
        try:
            async with http.get(f"http://{address}/-/ready") as response:
                return response.status == HTTPStatus.OK
        except aiohttp.ClientError:
            return False

    try:
        await until(ready)
        yield f"http://{address}/api/v1"
    finally:
        process.terminate()
        async with asyncio.timeout(STOP_S):
            await process.wait()


class Load:
    """Queries over HTTP, until `stop` is called; every tenth can be answered by no variant in time."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._began_s = time.monotonic()
        self._stopped = False

    async def ask(self, latency_ms: float, **headers: str) -> int:
        """Send a query; return the status of its answer."""
        body = {"inputs": [_IMAGE], "parameters": {"latency_ms": latency_ms}}
        async with self._http.post(self._url, json=body, headers=headers) as response:
            return response.status

    async def run(self) -> None:
        while not self._stopped:
            assert [await self.ask(20_000) for _ in range(9)] == [200] * 9
            assert await self.ask(0.001) == 422

    def is_settled(self) -> bool:
        return time.monotonic() - self._began_s >= LOAD_S

    def stop(self) -> None:
        self._stopped = True


class Observed(NamedTuple):
    """A running system with one model, and the receiver of its spans."""

    cli: Cli
    receiver: OtlpReceiver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def observed(hosted: Cli) -> AsyncGenerator[Observed]:
    """Run a system that exports the spans of queries whose clients trace them."""
    only_clients = {"OTEL_TRACES_SAMPLER_ARG": "0", "INFAAS_TRACES_PER_S": "1000"}
    async with (
        otlp_receiver(hosted.environment()["INFAAS_KAFKA_NAMESPACE"]) as receiver,
        hosted.up("--registrars=1", **exporting_to(receiver), **only_clients),
    ):
        await hosted.register("digits_mlp.onnx", "--name=mlp", task="digits")
        yield Observed(hosted, receiver)


@pytest.mark.asyncio(loop_scope="module")
async def test_dashboard_rules_and_top_have_values(observed: Observed, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        hosted = observed.cli
        state = await hosted.state()
        targets = [urlsplit(service["metrics"]).netloc for service in state["services"].values()]
        load = Load(http, f"{state['gateway']}/v2/models/digits/infer")
        async with prometheus(http, tmp_path, targets) as api, asyncio.TaskGroup() as tasks:

            async def get(path: str, **parameters: str) -> Any:
                async with http.get(f"{api}/{path}", params=parameters) as response:
                    return (await response.json())["data"]

            for _ in range(CLIENTS):
                tasks.create_task(load.run())
            await until(load.is_settled, LOAD_S + STOP_S)
            values = await read_until(lambda: values_of(get), lambda found: all(found.values()))
            if PAGE:
                write_page(PAGE, values, CLIENTS, hosted.environment()["INFAAS_KAFKA_NAMESPACE"])
            await check_variable(get)
            await check_exemplars(get, load)
            await check_rules(get)
            seen = await read_until(
                lambda: hosted.json("top"), lambda now: any(one["variants"] for one in now["tasks"])
            )
            assert [one["variant"] for one in seen["tasks"][0]["variants"]] == ["mlp.onnx-fp32.cpu"]
            assert seen["tasks"][0]["attainment"] == 1, "queries that no variant can answer do not count"
            load.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_trace_of_a_query_spans_three_processes(observed: Observed, tmp_path: Path) -> None:
    await check_traces(observed.cli, observed.receiver, tmp_path, {TRACE})


async def check_variable(get: Callable[..., Awaitable[Any]]) -> None:
    """Check that the variable of tasks has values, by the request that Grafana makes for it."""
    variable = task_variable()
    assert await get(f"label/{variable.label}/values", **{"match[]": variable.metric}) == ["digits"]


async def check_exemplars(get: Callable[..., Awaitable[Any]], load: Load) -> None:
    """Check that each query of exemplars finds a traced query."""
    began_s = time.time()
    assert await load.ask(20_000, traceparent=f"00-{TRACE}-{'5' * 16}-01") == 200
    queries = [query for query in panel_queries() if query.exemplars]
    assert len(queries) == 3
    for query in queries:

        async def traces(expression: str = query.executable) -> set[str]:
            times = {"start": str(began_s - 1), "end": str(time.time() + 1)}
            found = await get("query_exemplars", query=expression, **times)
            return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

        assert await read_until(traces, bool) == {TRACE}


async def check_rules(get: Callable[..., Awaitable[Any]]) -> None:
    """Check that all rules can be evaluated, and that no alert is raised that the load does not justify."""
    rules = [rule for group in (await get("rules"))["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    assert len(rules) > 10
    alerts = {alert["labels"]["alertname"]: alert["state"] for alert in (await get("alerts"))["alerts"]}
    if alerts.get("InfaasEventLoopSlow") == "pending":  # by the other suites' load; it fires after 5 minutes
        del alerts["InfaasEventLoopSlow"]
    assert alerts.keys() <= {"InfaasAttainmentBurnsFast", "InfaasAttainmentBurnsSlowly"}, "a tenth of the queries"


async def test_alert_rules_fire_and_stay_silent() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    process = await asyncio.create_subprocess_exec(program, "test", "rules", str(MONITORING / "rules_test.yml"))
    async with asyncio.timeout(STOP_S):
        assert await process.wait() == 0
