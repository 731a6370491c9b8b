"""Tests of metadata over every protocol: health, server, models and repository."""

import pytest

from tests.integration.gateway.protocols.clients import ProtocolClient
from tests.integration.gateway.responder import VARIANT


async def test_server_is_live_and_ready_until_stop(client: ProtocolClient) -> None:
    assert await client.server_ready() == (True, True)
    client.gateway.stop.set()
    assert await client.server_ready() == (True, False)


async def test_server_metadata_lists_extensions(client: ProtocolClient) -> None:
    server = await client.server()
    assert server["name"] == "infaas"
    assert {"binary_tensor_data", "statistics", "model_configuration"} <= set(server["extensions"])


@pytest.mark.parametrize("version", ["", "1"])
async def test_model_metadata_and_config_are_complete(client: ProtocolClient, version: str) -> None:
    metadata = (await client.metadata(client.gateway.task, version)).content
    wanted = {
        "name": client.gateway.task,
        "versions": ["1"],
        "platform": "infaas",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    assert wanted.items() <= metadata.items()
    config = (await client.config(VARIANT, version)).content
    assert (config["max_batch_size"], config["platform"]) == (32, "onnx")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]


async def test_metadata_of_unknown_name_is_refused(client: ProtocolClient) -> None:
    assert (await client.metadata("absent")).status == "unknown_task"
    assert (await client.metadata("mlp", "7")).status == "unknown_task"


async def test_model_ready_reports_each_name(client: ProtocolClient) -> None:
    names = (client.gateway.task, "mlp", "empty", "absent")
    assert [await client.model_ready(name) for name in names] == [True, True, False, False]


async def test_repository_lists_loads_and_refuses_unload(client: ProtocolClient) -> None:
    states = {client.gateway.task: "READY", "mlp": "READY", "empty": "UNAVAILABLE", VARIANT: "READY"}
    assert await client.index() == states
    assert set(await client.index(ready=True)) == states.keys() - {"empty"}
    assert set(await client.statistics()) == states.keys()
    assert (await client.load("mlp")).status == "ok"
    assert (await client.load("empty")).status == "unknown_task"
    assert (await client.load("mlp", config="{}")).status == "invalid_request"
    refused = await client.unload("mlp")
    assert (refused.status, "autoscaler" in refused.error) == ("invalid_request", True)
