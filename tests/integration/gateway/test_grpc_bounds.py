"""Tests of the gRPC limits: a client that uses up its limits does not block other clients."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import grpc.aio
import pytest

from broker.kafka.settings import KafkaSettings
from gateway.settings import GatewaySettings
from process.security.api_keys import ApiKey
from process.sockets import free_port
from store.pool import Pool
from tests.http2_client import Http2Client, http2_client
from tests.integration.gateway.conftest import Running
from tests.integration.gateway.test_authentication import guarded, new_key
from tests.integration.gateway.test_grpc_callers import outcome, request
from tests.waiting import until

INFER, STREAM, READY = (
    f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer", "ServerReady")
)
CHECK, WATCH = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch"))
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
INVALID, UNAVAILABLE, UNAUTHENTICATED = "3", "14", "16"
KIB = 1024
SLOW = 4
"""Number of messages that may arrive slowly: as many of the largest size as `max_bodies_bytes` holds."""


class Guard(NamedTuple):
    """A gateway that requires authentication, and two valid keys."""

    port: int
    task: str
    key: ApiKey
    other: ApiKey

    @property
    def metadata(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def is_answered(self) -> None:
        """Assert that a query with a valid key is answered on a new connection."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            assert (await outcome(channel, INFER, request(self.task), self.key))[:2] == ("OK", "")
            assert (await outcome(channel, READY, b""))[0] == "OK"


@pytest.fixture
async def guard(kafka: KafkaSettings, store_pool: Pool, database: str) -> AsyncGenerator[Guard]:
    port, key, other = free_port(), await new_key(store_pool), await new_key(store_pool)
    bounds: dict[str, Any] = {"receive_timeout_s": 3.0, "max_body_bytes": 64 * KIB, "max_bodies_bytes": SLOW * 64 * KIB}
    async with guarded(kafka, database, grpc_port=port, **bounds) as (gateway,):
        yield Guard(port, gateway.task, key, other)


async def ends(client: Http2Client, streams: list[int]) -> Counter[str]:
    """Count the status codes with which the calls ended."""
    return Counter([(await client.end_of(stream)).partition(" ")[0] for stream in streams])


async def test_grpc_slow_messages_are_bounded_and_time_out(guard: Guard) -> None:
    async with http2_client(guard.port) as client:
        halves = [client.call(INFER, guard.metadata) for _ in range(3 * SLOW)]
        for stream in halves[1:]:  # the first sends nothing
            client.send(stream, b"\x0a", announced=60 * KIB)
        await guard.is_answered()

        def refused_now() -> list[int]:
            return [stream for stream in halves if client.status(stream).startswith(UNAVAILABLE)]

        await until(lambda: len(refused_now()) == 2 * SLOW)
        refused = refused_now()
        assert {client.status(stream) for stream in refused} == {
            f"{UNAVAILABLE} too many messages arrive slowly here; try again later"
        }
        await guard.is_answered()
        late = {await client.end_of(stream) for stream in set(halves) - set(refused)}
        assert late == {f"{INVALID} the message has not arrived within 3 s"}


async def test_grpc_unauthenticated_calls_are_bounded(guard: Guard) -> None:
    async with http2_client(guard.port) as client:
        watches = [client.call(WATCH) for _ in range(300)]
        for stream in watches:
            client.send(stream, b"", last=True)
        checks = [client.call(CHECK) for _ in range(300)]
        probes = [client.call(READY) for _ in range(50)]
        streams = [client.call(REFLECTION) for _ in range(100)]
        unknown = [client.call(INFER) for _ in range(200)]
        for stream in (*checks, *unknown):
            client.send(stream, b"\x0a", announced=60 * KIB)
        await guard.is_answered()
        assert await ends(client, unknown) == {UNAUTHENTICATED: 200}
        assert await ends(client, probes) == {"0": 50}
        await until(lambda: sum(bool(client.status(stream)) for stream in watches) == 300 - 64)
        assert {client.status(stream) for stream in watches} == {
            "",
            f"{UNAVAILABLE} 64 health watches of one client are open here; end one first",
        }
        assert (await ends(client, checks)).keys() <= {INVALID, UNAVAILABLE}
        assert (await ends(client, streams)).keys() <= {"0", UNAVAILABLE}, "those that ask nothing end"
        await guard.is_answered()
        again = client.call(CHECK)
        client.send(again, b"", last=True)
        assert await client.end_of(again) == "0 ", "who has let go may ask again"


async def test_grpc_query_streams_per_client_are_bounded(guard: Guard) -> None:
    async with http2_client(guard.port) as client:
        streams = [client.call(STREAM, guard.metadata) for _ in range(251)]
        await until(lambda: any(map(client.status, streams)))
        assert [client.status(stream) for stream in streams if client.status(stream)] == [
            f"{UNAVAILABLE} 250 query streams of one client are open here; end one first"
        ]
        await guard.is_answered()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{guard.port}") as channel:
            stream = channel.stream_stream(STREAM)(metadata=(("authorization", f"Bearer {guard.other}"),))
            await stream.write(request(guard.task))
            assert await stream.read()


class TestConnections:
    @pytest.fixture
    def gateway_settings(self) -> GatewaySettings:
        return GatewaySettings(port=0, grpc_port=free_port(), max_connections=3)

    async def test_grpc_connections_are_bounded(self, gateway: Running, gateway_settings: GatewaySettings) -> None:
        port = gateway_settings.grpc_port or 0
        async with http2_client(port) as first, http2_client(port) as second:
            async with http2_client(port) as third, http2_client(port) as fourth:
                await until(lambda: fourth.gone)
                for client in (first, second, third):
                    assert await client.end_of(client.call(READY)) == "0 "
            await until(lambda: self.is_let_in(port))  # the gateway learns of a closed connection with a delay
            assert await first.end_of(first.call(READY)) == "0 "

    async def is_let_in(self, port: int) -> bool:
        async with http2_client(port) as client:
            await asyncio.sleep(0)
            return await client.end_of(client.call(READY)) == "0 "
