"""Tests of the Kubernetes launcher: its real client against a fake API, checked with the published schema."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from autoscaler.launchers.base import LauncherError
from autoscaler.launchers.kubernetes import KubernetesLauncher, open_launcher
from autoscaler.launchers.launched_worker import LaunchState
from autoscaler.settings import AutoscalerSettings
from process.sockets import free_port
from schemas.errors import OperatorError

NAMESPACE = "production"
TOKEN = "a-service-accounts-token"
VERSION = "1.34"
ROOT = "/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}/scale"
OFFERS = '{"cpu": {"maximum": 5, "cores": 4, "memory_bytes": 8000000000}}'


class Api:
    """Scale subresource of one StatefulSet, as an API server serves it; `settle` acts as its controller."""

    def __init__(self) -> None:
        self.replicas = 1
        self.present = 1
        self.version = 1
        self.writes = 0
        self.between = asyncio.Event()
        """If set, another client changes the StatefulSet after each read."""
        self.app = web.Application()
        self.app.add_routes([web.get(ROOT, self._get), web.put(ROOT, self._put)])

    def settle(self) -> None:
        self.present = self.replicas

    async def _get(self, request: web.Request) -> web.Response:
        answer = self._answer(request) or web.json_response(self._scale())
        if self.between.is_set():
            self.version += 1
        return answer

    async def _put(self, request: web.Request) -> web.Response:
        refused = self._answer(request)
        if refused is not None:
            return refused
        body: dict[str, Any] = await request.json()
        kubernetes_validate.validate(body, VERSION, strict=True)
        assert (body["apiVersion"], body["kind"]) == ("autoscaling/v1", "Scale")
        assert body["metadata"]["name"] == request.match_info["name"]
        if body["metadata"]["resourceVersion"] != str(self.version):
            return _status(409, "Conflict")
        self.replicas = body["spec"]["replicas"]
        self.version += 1
        self.writes += 1
        return web.json_response(self._scale())

    def _answer(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        if request.match_info["namespace"] != NAMESPACE:
            return _status(403, "Forbidden")
        if request.match_info["name"] != "worker-cpu":
            return _status(404, "Not Found")
        return None

    def _scale(self) -> dict[str, Any]:
        scale = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": "worker-cpu", "namespace": NAMESPACE, "resourceVersion": str(self.version)},
            # The API server omits zero values.
            "spec": {"replicas": self.replicas} if self.replicas else {},
            "status": {"replicas": self.present, "selector": "app=worker-cpu"},
        }
        kubernetes_validate.validate(scale, VERSION, strict=True)
        return scale


def _status(code: int, reason: str) -> web.Response:
    body = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return web.json_response(body, status=code, reason=reason)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Api]:
    api = Api()
    async with TestServer(api.app) as server:
        _know_the_way(tmp_path, monkeypatch, str(server.make_url("/")).rstrip("/"))
        yield api


def _know_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("INFAAS_KUBERNETES_KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("INFAAS_KUBERNETES_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("INFAAS_KUBERNETES_HARDWARE", OFFERS)


@pytest.fixture
async def launcher(api: Api) -> AsyncGenerator[KubernetesLauncher]:
    async with open_launcher(AutoscalerSettings()) as launcher:
        yield launcher


async def _states(launcher: KubernetesLauncher) -> dict[str, LaunchState]:
    return {one.worker: one.state for one in await launcher.running()}


async def test_kubernetes_launcher_starts_and_stops_in_order(api: Api, launcher: KubernetesLauncher) -> None:
    kind = launcher.hardware["cpu"]
    assert (kind.slots, kind.maximum, kind.memory_bytes, kind.stops_highest) == (4, 5, 8_000_000_000, True)
    await launcher.start("cpu", "cpu-1")
    assert await _states(launcher) == {"cpu-0": LaunchState.RUNNING, "cpu-1": LaunchState.STARTING}
    api.settle()
    assert await _states(launcher) == {"cpu-0": LaunchState.RUNNING, "cpu-1": LaunchState.RUNNING}
    await launcher.stop("cpu-1")
    assert await _states(launcher) == {"cpu-0": LaunchState.RUNNING, "cpu-1": LaunchState.STOPPING}
    await launcher.stop("cpu-0")
    api.settle()
    assert await _states(launcher) == {}
    await launcher.start("cpu", "cpu-0")
    assert api.replicas == 1


async def test_kubernetes_launcher_start_and_stop_are_idempotent(api: Api, launcher: KubernetesLauncher) -> None:
    async with AsyncExitStack() as stack:
        successor = await stack.enter_async_context(open_launcher(AutoscalerSettings()))
        for one in (launcher, successor):
            await one.start("cpu", "cpu-1")
        assert (api.replicas, api.writes) == (2, 1)
        for one in (launcher, successor):
            await one.stop("cpu-1")
        assert (api.replicas, api.writes) == (1, 2)


async def test_kubernetes_launcher_accepts_concurrent_calls(api: Api, launcher: KubernetesLauncher) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(1, 5):
            tasks.create_task(launcher.start("cpu", f"cpu-{number}"))
    assert api.replicas == 5
    async with asyncio.TaskGroup() as tasks:
        for number in (4, 3):
            tasks.create_task(launcher.stop(f"cpu-{number}"))
    assert api.replicas == 3


async def test_kubernetes_launcher_rejects_gaps(api: Api, launcher: KubernetesLauncher) -> None:
    await launcher.start("cpu", "cpu-1")
    with pytest.raises(LauncherError, match="cannot start cpu-3 before cpu-2"):
        await launcher.start("cpu", "cpu-3")
    with pytest.raises(LauncherError, match="cannot stop cpu-0 before cpu-1"):
        await launcher.stop("cpu-0")
    assert api.replicas == 2


async def test_kubernetes_launcher_raises_on_write_conflict(api: Api, launcher: KubernetesLauncher) -> None:
    api.between.set()
    with pytest.raises(LauncherError, match="409 Conflict"):
        await launcher.start("cpu", "cpu-1")
    assert api.replicas == 1
    api.between.clear()
    await launcher.start("cpu", "cpu-1")
    assert api.replicas == 2


async def test_kubernetes_launcher_names_missing_stateful_set(
    api: Api, monkeypatch: pytest.MonkeyPatch, launcher: KubernetesLauncher
) -> None:
    monkeypatch.setenv("INFAAS_KUBERNETES_HARDWARE__CUDA", '{"maximum": 1, "memory_bytes": 1}')
    async with open_launcher(AutoscalerSettings()) as other:
        assert set(other.hardware) == {"cpu", "cuda"}
        with pytest.raises(LauncherError, match="worker-cuda in production: 404"):
            await other.running()


async def test_kubernetes_launcher_raises_if_api_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _know_the_way(tmp_path, monkeypatch, f"http://127.0.0.1:{free_port()}")
    async with open_launcher(AutoscalerSettings()) as launcher:
        with pytest.raises(LauncherError, match="does not answer"):
            await launcher.running()


async def test_kubernetes_launcher_needs_kubeconfig_outside_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_KUBERNETES_HARDWARE", OFFERS)
    with pytest.raises(OperatorError, match="INFAAS_KUBERNETES_KUBECONFIG"):
        async with open_launcher(AutoscalerSettings()):
            pass
