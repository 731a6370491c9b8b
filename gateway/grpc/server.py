"""The gRPC server of a gateway: limits, address, drain.

The server limits the connections, the duration of handshakes, and the idle time and age of connections. It also limits
the concurrent calls of a connection, the size of messages, their time to arrive (`limits/arrivals.py`) and calls
without a maximum duration (`limits/connections.py`). It does not limit the total number of calls: any client could use
it up with calls that it only begins, even without authentication. When the gateway stops, new calls are refused,
streams read no more requests, and running queries may finish within the drain timeout.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.auth.authenticator import Authenticator
from gateway.grpc import inference_pb2
from gateway.grpc.calls import Callers, Methods
from gateway.grpc.open_services import HealthService, ReflectionService
from gateway.grpc.service import InferenceService
from gateway.inference import Inference
from gateway.limits.arrivals import Arrivals, BodyBudget
from gateway.model_directory import ModelDirectory
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from process.sockets import address_text
from process.tls import ListenerTls
from process.version import version
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

_INFERENCE: Final = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTION: Final = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
_STREAMS: Final = 1000
"""Maximum concurrent calls of one connection; further calls wait at the client."""
_PING_S: Final = 10
"""Minimum seconds between pings of a client."""
_PING_STRIKES: Final = 5
"""Number of too frequent pings after which a connection is closed."""
_KEEPALIVE_S: Final = 60
"""Seconds of silence after which the server pings a client."""
_IDLE_S: Final = 300
"""Seconds without a call after which a connection is closed; clients open another on demand."""
_AGE_S: Final = 3600
"""Maximum age of a connection in seconds, plus or minus a tenth; its client then opens another one."""
_AGE_GRACE_S: Final = 600
"""Seconds for which calls on the old connection may still run. No call thus lasts for ever."""


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
    server = grpc.aio.server(options=_options(settings))
    server.add_generic_rpc_handlers(_handlers(service, arrivals, problem, stop))
    host = settings.host or "::"  # the core of gRPC does not accept an empty name for all addresses
    address = address_text(host, settings.grpc_port or 0)
    try:
        port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, _credentials(tls))
    except RuntimeError:
        raise OperatorError(f"cannot listen on {address}; choose another --grpc-port") from None
    await server.start()
    log.info("gRPC at %s", address_text(host, port))
    try:
        yield address_text(host, port)
    finally:
        await server.stop(settings.request_drain_s)


def _handlers(
    service: InferenceService, arrivals: Arrivals, problem: Callable[[], Awaitable[str]], stop: asyncio.Event
) -> tuple[Methods, ...]:
    health = HealthService(frozenset({_INFERENCE}), arrivals, problem, stop)
    reflection = ReflectionService((_INFERENCE, _HEALTH), _described(), arrivals)
    return (
        Methods(_INFERENCE, service.methods(), service.not_offered),
        Methods(_HEALTH, health.methods(), health.not_offered),
        Methods(_REFLECTION, reflection.methods(), reflection.not_offered),
    )


def _credentials(tls: ListenerTls) -> grpc.ServerCredentials:
    """Return server credentials that use the current certificate at each handshake."""

    def current() -> grpc.ServerCertificateConfiguration:
        found = tls.current
        return grpc.ssl_server_certificate_configuration([(found.key, found.certificate)], found.client_ca)

    first = tls.current
    return grpc.dynamic_ssl_server_credentials(
        current(), current, require_client_authentication=first.client_ca is not None
    )


def _described() -> DescriptorPool:
    """Return a pool with the descriptors of all services here; ours are in no shared pool."""
    pool = DescriptorPool()
    for file in (inference_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),  # the record size of Kafka limits results
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(settings.receive_timeout_s * 1e3)),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_S * 1000),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", int(settings.receive_timeout_s * 1e3)),
        ("grpc.max_connection_idle_ms", _IDLE_S * 1000),
        ("grpc.max_connection_age_ms", _AGE_S * 1000),
        ("grpc.max_connection_age_grace_ms", _AGE_GRACE_S * 1000),
    ]
