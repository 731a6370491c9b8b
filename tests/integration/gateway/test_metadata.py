"""Tests of the metadata endpoints: health, server, models, repository and statistics."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.gateway.conftest import Running
from tests.integration.gateway.responder import VARIANT

Get = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def get(gateway: Running) -> Get:
    async def ask(path: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
        async with gateway.http.request(method, gateway.url + path, **options) as response:
            assert response.content_type == "application/json"
            return response.status, await response.json()

    return ask


async def test_health_reports_live_and_ready(get: Get, gateway: Running) -> None:
    assert await get("/v2/health/live") == (200, {"live": True})
    assert await get("/v2/health/ready") == (200, {"ready": True, "reason": ""})
    gateway.stop.set()
    assert await get("/v2/health/ready") == (503, {"ready": False, "reason": "it is stopping"})
    assert await get("/v2/health/live") == (200, {"live": True})


async def test_server_metadata_lists_extensions(get: Get) -> None:
    status, server = await get("/v2")
    assert status == 200
    assert server["name"] == "infaas"
    assert {"binary_tensor_data", "statistics", "model_configuration"} <= set(server["extensions"])


@pytest.mark.parametrize("version", ["", "/versions/1"])
async def test_model_metadata_and_config_are_complete(get: Get, gateway: Running, version: str) -> None:
    status, metadata = await get(f"/v2/models/{gateway.task}{version}")
    assert status == 200
    assert metadata == {
        "name": gateway.task,
        "versions": ["1"],
        "platform": "infaas",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "parameters": {"measure": "accuracy"},
    }
    status, config = await get(f"/v2/models/{VARIANT}{version}/config")
    assert config["max_batch_size"] == 32
    assert config["platform"] == "onnx"
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]


async def test_model_ready_reports_each_name(get: Get) -> None:
    assert await get("/v2/models/mlp/ready") == (200, {"name": "mlp", "ready": True})
    assert await get("/v2/models/empty/ready") == (503, {"name": "empty", "ready": False})
    assert (await get("/v2/models/absent/ready"))[0] == 404


async def test_repository_lists_loads_and_refuses_unload(get: Get, gateway: Running) -> None:
    status, index = await get("/v2/repository/index", "POST")
    assert status == 200
    assert {(entry["name"], entry["state"]) for entry in index} == {
        (gateway.task, "READY"),
        ("mlp", "READY"),
        ("empty", "UNAVAILABLE"),
        (VARIANT, "READY"),
    }
    _, ready = await get("/v2/repository/index", "POST", json={"ready": True})
    assert "empty" not in {entry["name"] for entry in ready}
    assert (await get("/v2/repository/index", "POST", data=b"["))[0] == 400
    assert (await get("/v2/repository/models/mlp/load", "POST", json={}))[0] == 200
    assert (await get("/v2/repository/models/empty/load", "POST", json={}))[0] == 404
    status, answer = await get("/v2/repository/models/mlp/unload", "POST", json={})
    assert status == 400
    assert "autoscaler" in answer["error"]


async def test_statistics_cover_all_models(get: Get) -> None:
    status, found = await get("/v2/models/stats")
    assert status == 200
    assert VARIANT in {model["name"] for model in found["model_stats"]}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/v2", 405)])
async def test_unknown_path_and_method_answer_json(get: Get, method: str, path: str, status: int) -> None:
    found, answer = await get(path, method)
    assert found == status
    assert path in answer["error"]


async def test_unknown_path_is_invalid_request(gateway: Running) -> None:
    async with gateway.http.get(f"{gateway.url}/nothing") as response:
        assert response.headers["infaas-status"] == "invalid_request"
