"""The gRPC server of a gateway: limits, address, drain.

The server limits the connections, the time until they begin, their idle time and age (`connection.py`). It also limits
the concurrent calls of a connection, the size of messages, their time to arrive (`limits/arrivals.py`) and calls
without a maximum duration (`limits/connections.py`). It does not limit the total number of calls: any client could use
it up with calls that it only begins, even without authentication. When the gateway stops, new calls are refused,
streams read no more requests, and running queries may finish within the drain timeout.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.auth.authenticator import Authenticator
from gateway.grpc import inference_pb2
from gateway.grpc.calls import Callers, CallServer, Methods
from gateway.grpc.connection import ConnectionTimes, GrpcConnection
from gateway.grpc.open_services import HealthService, ReflectionService
from gateway.grpc.service import InferenceService
from gateway.inference import Inference
from gateway.limits.arrivals import Arrivals, BodyBudget
from gateway.model_directory import ModelDirectory
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from process.sockets import address_text
from process.tls import HTTP_2, ListenerTls
from process.version import version
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

_INFERENCE: Final = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTION: Final = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
_SILENCE_S: Final = 60.0
"""Seconds of silence after which the server pings a client."""
_IDLE_S: Final = 300.0
"""Seconds without a call after which a connection is closed; clients open another on demand."""
_AGE_S: Final = 3600.0
"""Maximum age of a connection in seconds, plus or minus a tenth; its client then opens another one."""
_GRACE_S: Final = 600.0
"""Seconds for which calls on the old connection may still run. No call thus lasts for ever."""
_LOOK_S: Final = 1.0
"""Seconds between two looks at the times of all connections."""


@asynccontextmanager
async def grpc_listening(
    settings: GatewaySettings,
    models: ModelDirectory,
    inference: Inference,
    authenticator: Authenticator,
    statistics: ModelStatisticsTable,
    bodies: BodyBudget,
    problem: Callable[[], Awaitable[str]],
    stop: asyncio.Event,
    tls: ListenerTls | None,
) -> AsyncGenerator[str]:
    """Serve calls while the context is open; yield the address.

    Raises:
        OperatorError: the port is taken.
    """
    arrivals, callers = Arrivals(settings), Callers(authenticator, models)
    service = InferenceService(callers, inference, statistics, bodies, settings, arrivals, problem, version(), stop)
    server = GrpcServer(CallServer(_services(service, arrivals, problem, stop)), settings)
    address = await server.listen(tls)
    log.info("gRPC at %s", address)
    async with server.serving():
        yield address


class GrpcServer:
    """Listener with its connections."""

    def __init__(self, calls: CallServer, settings: GatewaySettings) -> None:
        self._calls = calls
        self._settings = settings
        self._tasks = asyncio.TaskGroup()
        self._connections = set[GrpcConnection]()
        self._all_left = asyncio.Event()
        self._all_left.set()
        self._server: asyncio.Server

    async def listen(self, tls: ListenerTls | None) -> str:
        """Listen; return the address.

        Raises:
            OperatorError: the port is taken.
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        host, port = settings.host or "::", settings.grpc_port or 0
        try:
            self._server = await loop.create_server(
                self._connection,
                settings.host,
                port,
                reuse_port=settings.reuse_port or None,
                **({} if tls is None else tls.server_options(settings.receive_timeout_s, HTTP_2)),
            )
        except OSError:
            raise OperatorError(f"cannot listen on {address_text(host, port)}; choose another --grpc-port") from None
        return address_text(host, self._server.sockets[0].getsockname()[1])

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Serve connections while the context is open, then drain them."""
        async with self._tasks:
            looking = self._tasks.create_task(self._look_after_connections(), name="gRPC connections")
            try:
                yield
            finally:
                await self._stop(self._settings.request_drain_s)
                looking.cancel()

    async def _look_after_connections(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            for connection in list(self._connections):
                connection.look(loop.time())

    async def _stop(self, drain_s: float) -> None:
        """Accept no more connections and calls; wait `drain_s` for the running calls, then cancel them."""
        self._server.close()
        for connection in list(self._connections):
            connection.stop()
        try:
            async with asyncio.timeout(drain_s):
                await self._all_left.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._all_left.wait()

    def _connection(self) -> GrpcConnection:
        settings = self._settings
        age_s = _AGE_S * random.uniform(0.9, 1.1)  # so that clients do not all reconnect at once
        times = ConnectionTimes(settings.receive_timeout_s, _SILENCE_S, _IDLE_S, age_s, _GRACE_S)
        return GrpcConnection(
            self._calls.serve, self._tasks.create_task, self._admit, self._left, times, settings.max_body_bytes
        )

    def _admit(self, connection: GrpcConnection) -> bool:
        if len(self._connections) >= self._settings.max_connections:
            return False
        self._connections.add(connection)
        self._all_left.clear()
        return True

    def _left(self, connection: GrpcConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_left.set()


def _services(
    service: InferenceService, arrivals: Arrivals, problem: Callable[[], Awaitable[str]], stop: asyncio.Event
) -> tuple[Methods, ...]:
    health = HealthService(frozenset({_INFERENCE}), arrivals, problem, stop)
    reflection = ReflectionService((_INFERENCE, _HEALTH), _described(), arrivals)
    return (
        Methods(_INFERENCE, service.methods(), service.not_offered),
        Methods(_HEALTH, health.methods(), health.not_offered),
        Methods(_REFLECTION, reflection.methods(), reflection.not_offered),
    )


def _described() -> DescriptorPool:
    """Return a pool with the descriptors of all services here; ours are in no shared pool."""
    pool = DescriptorPool()
    for file in (inference_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool
