"""Fixtures of the client tests: a client through Kafka and one through a gateway."""

from collections.abc import AsyncGenerator

import pytest

from broker.kafka.settings import KafkaSettings
from gateway.settings import GatewaySettings
from infaas.client import InfaasClient
from tests.integration.gateway.conftest import Running, gateway

__all__ = ["gateway"]


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    return GatewaySettings(port=0)


@pytest.fixture(params=["kafka", "http"])
async def client(
    request: pytest.FixtureRequest, gateway: Running, kafka: KafkaSettings
) -> AsyncGenerator[InfaasClient]:
    way = {"kafka": kafka} if request.param == "kafka" else {"gateway": gateway.url}
    async with InfaasClient(**way, max_in_flight=500) as opened:  # pyright: ignore[reportArgumentType]
        yield opened
