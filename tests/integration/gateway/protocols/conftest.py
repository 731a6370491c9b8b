"""Fixtures: a gateway that serves HTTP and gRPC, and a client of each protocol."""

from collections.abc import AsyncGenerator

import grpc.aio
import pytest

from gateway.settings import GatewaySettings
from process.sockets import free_port
from tests.integration.gateway.conftest import Running, gateway
from tests.integration.gateway.protocols.clients import GrpcClient, HttpClient, ProtocolClient

__all__ = ["gateway"]


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0, grpc_port=free_port(), max_in_flight=4, grace_s=0.2)


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def client(gateway: Running, gateway_settings: GatewaySettings, protocol: str) -> AsyncGenerator[ProtocolClient]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway_settings.grpc_port}") as channel:
        if protocol == "grpc":
            yield GrpcClient(gateway, channel)
        else:
            yield HttpClient(gateway, chunked=protocol == "aiohttp")
