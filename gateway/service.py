"""The gateway as a service: follows the catalog, serves clients, drains at the end in the order of aiohttp.

The order: stop listening, close idle connections, finish running requests within the drain timeout, and only then close
the reply topic and the producer that these requests wait for.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import urandom
from typing import Final, Protocol

from aiohttp import web

from broker.kafka.cluster import KafkaReachability
from broker.kafka.settings import KafkaSettings
from gateway.auth.authenticator import Authenticator, open_authenticator
from gateway.generation import Generation
from gateway.http.admin import CONNECTIONS, AdminRoutes
from gateway.http.bodies import RequestBodies
from gateway.http.connection import http_listening, make_app
from gateway.http.generate import GenerateRoutes
from gateway.http.inference import InferenceRoutes
from gateway.http.jobs import JobRoutes
from gateway.http.manual import ManualRoutes
from gateway.http.metadata import MetadataRoutes
from gateway.http.uploads import UploadRoutes
from gateway.inference import Inference
from gateway.jobs.submission import JobQuota, JobWriter
from gateway.limits.arrivals import LARGE_SHARE, BodyBudget
from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ModelDirectory
from gateway.openai.batch_keeper import keeping_batches
from gateway.openai.errors import openai_errors
from gateway.openai.files import FileRoutes
from gateway.openai.routes import OpenAiRoutes
from gateway.query_client import QueryClient
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from process.collection import tune_gc
from process.health import HealthRoutes, health_server
from process.sockets import allow_open_files
from process.tls import following_certificates
from process.tracing.tracer import open_tracer
from process.version import version
from registry.artifact_settings import ENV as ARTIFACTS_ENV
from registry.service.removals import Remover
from schemas.errors import OperatorError
from store.catalog import CatalogWatcher
from store.pool import open_pool
from store.shared_connection import SharedConnection
from store.system import read_system_secret

log = logging.getLogger(__name__)

_RECORD_OVERHEAD_BYTES: Final = 64 * 1024
"""Bytes reserved for the headers of a record besides its value."""
_OWN_FILES: Final = 256
"""Open files reserved for uses other than client connections, such as Kafka and Postgres."""


class RouteGroup(Protocol):
    """Handlers of some paths."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        ...


async def serve(settings: GatewaySettings, kafka: KafkaSettings, dsn: str, stop: asyncio.Event) -> None:
    """Run a gateway until `stop` is set, then drain.

    Raises:
        OperatorError: the port is taken, a setting contradicts another, or Kafka cannot be reached.
        StoreUnavailable: Postgres cannot be reached.
    """
    async with SharedConnection(dsn) as connection, CatalogWatcher(connection) as catalog, asyncio.TaskGroup() as tasks:
        models = ModelDirectory(catalog.current)
        secret = await read_system_secret(connection)
        async with open_gateway(settings, kafka, models, dsn, stop, connection, secret) as (address, query_client):
            log.info("serving %d models at %s", len(models), address)
            tune_gc()
            remover = Remover(connection, dsn, kafka, settings.home, os.environ.get(ARTIFACTS_ENV, ""))
            following = [
                tasks.create_task(_follow_catalog(catalog, models, query_client), name="catalog"),
                tasks.create_task(remover.run(), name="removals"),
            ]
            await stop.wait()
            for task in following:
                task.cancel()


@asynccontextmanager
async def open_gateway(
    settings: GatewaySettings,
    kafka: KafkaSettings,
    models: ModelDirectory,
    dsn: str,
    stop: asyncio.Event,
    connection: SharedConnection | None = None,
    system_secret: bytes | None = None,
) -> AsyncGenerator[tuple[str, QueryClient]]:
    """Serve `models` while the context is open; yield the URL and the query client. Jobs and keys are stored at `dsn`.

    The `connection` follows changes of keys, or a new one does. `system_secret` signs the counts of refused queries,
    and the sessions of the console.

    Raises:
        OperatorError: the port is taken, a setting contradicts another, or Kafka cannot be reached.
    """
    _check_sizes(settings, kafka)
    settings = settings.model_copy(update={"max_connections": _connections_each(settings)})
    async with (
        open_pool(dsn, min_size=0) as pool,
        open_pool(dsn, min_size=0, max_size=CONNECTIONS) as admin_pool,
        open_authenticator(settings, connection or dsn) as authenticator,
        JobWriter(pool, JobQuota(settings.max_jobs, settings.max_jobs_bytes)) as writer,
        QueryClient(settings, kafka, system_secret) as query_client,
        open_tracer("gateway", query_client.owner) as tracer,
        following_certificates(settings.tls_files) as tls,
    ):
        await query_client.prefetch_metadata(models.topics)
        statistics, quotas = ModelStatisticsTable(query_client.owner), QuotaMeters()
        reason, problem = _readiness(stop, KafkaReachability(kafka), query_client)
        bodies = RequestBodies(settings, budget := BodyBudget(settings.max_bodies_bytes))
        asking = Inference(query_client, statistics, budget, quotas, tracer)
        inference = InferenceRoutes(models, asking, bodies, authenticator)
        generating = GenerateRoutes(models, generation := Generation(asking), bodies)
        jobs = JobRoutes(models, query_client, bodies, writer, pool, quotas, settings)
        admin = AdminRoutes(settings, kafka, bodies, admin_pool, artifacts := os.environ.get(ARTIFACTS_ENV, ""))
        uploads = UploadRoutes(settings, admin_pool, admin.turn, artifacts)
        openai = OpenAiRoutes(
            settings, models, asking, generation, query_client, bodies, writer, quotas, pool, artifacts
        )
        secret = system_secret or urandom(32)
        pages, ends = _console(settings, secret, authenticator, admin, uploads, openai.files, models, asking, bodies)
        parts = (inference, generating, jobs, admin, uploads, openai, ManualRoutes(settings.manual), *pages)
        app = make_app(settings, all_routes(parts, models, statistics, bodies, reason), authenticator, [openai_errors])
        app.on_shutdown.extend(ends)
        listeners: list[AbstractAsyncContextManager[str]] = [http_listening(app, inference, settings, tls)]
        if settings.grpc_port is not None:
            grpc_parts = (models, asking, authenticator, statistics, budget, reason, stop, tls)
            listeners.append(_grpc_listening()(settings, *grpc_parts))
        statistics.register()
        try:
            async with (
                open_listeners(*listeners) as addresses,
                health_server(settings.metrics_host, settings.metrics_port, problem),
                keeping_batches(openai.keeper),
            ):
                yield addresses[0], query_client
        finally:
            statistics.unregister()


def _readiness(
    stop: asyncio.Event, reachability: KafkaReachability, query_client: QueryClient
) -> tuple[Callable[[], Awaitable[str]], Callable[[], Awaitable[str]]]:
    """Return two functions that return why the gateway is not ready: for clients, and for its operator."""

    async def reason() -> str:  # shown without authentication, so it must not name Kafka's address
        if stop.is_set():
            return "it is stopping"
        return "Kafka accepts no queries" if await reachability.problem() or not query_client.up else ""

    async def problem() -> str:
        return ("" if stop.is_set() else await reachability.problem()) or await reason()

    return reason, problem


def _connections_each(settings: GatewaySettings) -> int:
    """Return the maximum connections of each listener: as set, or fewer if the limit of open files is low.

    Without a free file, a process cannot reach Kafka and Postgres either.
    """
    listeners = 1 if settings.grpc_port is None else 2
    allowed = allow_open_files(listeners * settings.max_connections + _OWN_FILES) - _OWN_FILES
    return max(allowed // listeners, 1)


def _check_sizes(settings: GatewaySettings, kafka: KafkaSettings) -> None:
    """Raise OperatorError if the largest request exceeds a memory limit or Kafka's record size."""
    if settings.max_body_bytes > LARGE_SHARE * settings.max_bodies_bytes:
        raise OperatorError(
            f"--max-bodies-bytes {settings.max_bodies_bytes} has no room for a request of --max-body-bytes "
            f"{settings.max_body_bytes}: make it at least {settings.max_body_bytes / LARGE_SHARE:.0f}"
        )
    if settings.max_body_bytes > kafka.max_record_bytes - _RECORD_OVERHEAD_BYTES:
        raise OperatorError(
            f"--max-body-bytes {settings.max_body_bytes} does not fit into Kafka's records: make it at least 64 KiB "
            f"smaller than INFAAS_KAFKA_MAX_RECORD_BYTES ({kafka.max_record_bytes})"
        )


def all_routes(
    parts: Sequence[RouteGroup],
    models: ModelDirectory,
    statistics: ModelStatisticsTable,
    bodies: RequestBodies,
    problem: Callable[[], Awaitable[str]],
) -> list[web.RouteDef]:
    """Return the routes of all paths; `problem` returns the reason why the gateway is not ready."""
    metadata = MetadataRoutes(models, statistics, bodies, version())
    own = [route for part in (*parts, metadata) for route in part.routes()]
    return [*own, *HealthRoutes(problem).routes("/v2/health")]


@asynccontextmanager
async def open_listeners(*listeners: AbstractAsyncContextManager[str]) -> AsyncGenerator[list[str]]:
    """Open listeners; yield their addresses in the same order.

    They open one after the other, so that a taken port raises its own error. They close concurrently: each waits for
    its own clients, and all may use the whole drain timeout.
    """
    opened, addresses = list[AbstractAsyncContextManager[str]](), list[str]()
    try:
        for listener in listeners:
            addresses.append(await listener.__aenter__())
            opened.append(listener)
        yield addresses
    finally:
        async with asyncio.TaskGroup() as closing:
            for listener in opened:
                closing.create_task(_close(listener))


async def _close(listener: AbstractAsyncContextManager[str]) -> None:
    await listener.__aexit__(None, None, None)


def _console(
    settings: GatewaySettings, secret: bytes, authenticator: Authenticator, admin: AdminRoutes, uploads: UploadRoutes,
    files: FileRoutes, models: ModelDirectory, asking: Inference, bodies: RequestBodies,
) -> tuple[list[RouteGroup], list[Callable[[web.Application], Awaitable[None]]]]:  # fmt: skip
    """Return the routes of the console if it is on, and the functions that end the updates of its open pages."""
    if not settings.console:
        return [], []
    # Not above: only a gateway with a console needs its templates.
    from gateway.console.asking import AskRoutes
    from gateway.console.downloads import DownloadRoutes
    from gateway.console.registering import RegisterRoutes
    from gateway.console.routes import ConsoleRoutes

    console = ConsoleRoutes(settings, authenticator, admin, bodies, secret, version())
    own = AskRoutes(console, models, asking), RegisterRoutes(console, uploads), DownloadRoutes(console, files)
    return [*own, console], [console.end]


def _grpc_listening():  # the inferred type has the parameters
    """Import the listener of gRPC.

    Raises:
        OperatorError: the packages of gRPC are not installed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr; our code logs errors
    try:
        from gateway.grpc.server import grpc_listening
    except ImportError as error:
        raise OperatorError(f"--grpc-port needs gRPC ({error}): pip install 'infaas[grpc]'") from None
    return grpc_listening


async def _follow_catalog(catalog: CatalogWatcher, models: ModelDirectory, query_client: QueryClient) -> None:
    while True:
        models.update(await catalog.changed())
        await query_client.prefetch_metadata(models.topics, refresh=True)
