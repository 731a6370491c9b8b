"""The gateway as a service: follows the catalog, serves clients, drains at the end in the order of aiohttp.

The order: stop listening, close idle connections, finish running requests within the drain timeout, and only then close
the reply topic and the producer that these requests wait for.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from aiohttp import web

from broker.reachability import KafkaReachability
from broker.settings import KafkaSettings
from gateway.authentication import Authenticator, open_authenticator
from gateway.http.admin import CONNECTIONS, AdminRoutes, import_acts
from gateway.http.authorization import authorization
from gateway.http.connection import HttpConnection, encode_answers, json_errors
from gateway.http.document import DocumentRoutes
from gateway.http.inference import InferenceRoutes
from gateway.http.jobs import JobRoutes
from gateway.http.metadata import MetadataRoutes
from gateway.http.request_bodies import RequestBodies
from gateway.http.unoffered import UnofferedRoutes
from gateway.http.uploads import UploadRoutes
from gateway.inference import Inference
from gateway.limits.connections import ConnectionLimits, connections_each
from gateway.limits.memory import LARGE_SHARE, BodyBudget
from gateway.listeners import DRAIN_SHARE, grpc_listener, open_listeners
from gateway.model_directory import ModelDirectory
from gateway.query_client import QueryClient
from gateway.remover import Remover
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from jobs.quota import JobQuota
from jobs.submission import JobWriter
from process.garbage_collection import tune_gc
from process.health_server import HealthRoutes, health_server
from process.os_errors import listen_words
from process.ports import address_text
from process.tls import ListenerTls, following_certificates
from process.version import version
from registry.artifact_settings import ENV as ARTIFACTS_ENV
from schemas.errors import OperatorError
from security.quotas import QuotaMeters
from store.catalog import CatalogWatcher
from store.pool import open_pool
from store.shared_connection import SharedConnection
from store.system_secret import read_system_secret

log = logging.getLogger(__name__)

_RECORD_OVERHEAD_BYTES: Final = 64 * 1024
"""Bytes reserved for the headers of a record besides its value."""


async def serve(settings: GatewaySettings, kafka: KafkaSettings, dsn: str, stop: asyncio.Event) -> None:
    """Run a gateway until `stop` is set, then drain.

    Raises:
        OperatorError: the port is taken, a setting contradicts another, or Kafka cannot be reached.
        StoreUnavailable: Postgres cannot be reached.
    """
    async with (
        SharedConnection(dsn) as connection,
        CatalogWatcher(connection) as catalog,
        asyncio.TaskGroup() as tasks,
    ):
        models = ModelDirectory(catalog.current)
        secret = await read_system_secret(connection)
        async with open_gateway(settings, kafka, models, dsn, stop, connection, secret) as (address, query_client):
            log.info("serving %d models at %s", len(models), address)
            await asyncio.to_thread(import_acts)
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

    The `connection` follows changes of keys, or a new one does. `system_secret` signs the counts of refused queries.

    Raises:
        OperatorError: the port is taken, a setting contradicts another, or Kafka cannot be reached.
    """
    _check_sizes(settings, kafka)
    settings = settings.model_copy(update={"max_connections": connections_each(settings)})
    async with (
        open_pool(dsn, min_size=0) as pool,
        open_pool(dsn, min_size=0, max_size=CONNECTIONS) as admin_pool,
        open_authenticator(settings, connection or dsn) as authenticator,
        JobWriter(pool, JobQuota(settings.max_jobs, settings.max_jobs_bytes)) as writer,
        QueryClient(settings, kafka, system_secret) as query_client,
        following_certificates(settings.tls_files) as tls,
    ):
        await query_client.prefetch_metadata(models.topics)
        statistics = ModelStatisticsTable(query_client.owner)
        reachability = KafkaReachability(kafka)

        async def told() -> str:  # shown without authentication, so it must not name Kafka's address
            if stop.is_set():
                return "it is stopping"
            return "Kafka does not take queries" if await reachability.problem() or not query_client.up else ""

        async def problem() -> str:
            return ("" if stop.is_set() else await reachability.problem()) or await told()

        quotas = QuotaMeters()
        bodies = RequestBodies(settings, budget := BodyBudget(settings.max_bodies_bytes))
        asking = Inference(query_client, statistics, budget, quotas)
        inference = InferenceRoutes(models, asking, bodies, authenticator)
        jobs = JobRoutes(models, query_client, bodies, writer, pool, quotas, settings)
        admin = AdminRoutes(settings, kafka, bodies, admin_pool, artifacts := os.environ.get(ARTIFACTS_ENV, ""))
        uploads = UploadRoutes(settings, admin_pool, admin.turn, artifacts)
        routes = all_routes(inference, jobs, admin, uploads, models, statistics, bodies, told)
        app = make_app(settings, routes, authenticator)
        listeners: list[AbstractAsyncContextManager[str]] = [listening(app, inference, settings, tls)]
        if settings.grpc_port is not None:
            listeners += [grpc_listener(settings, models, asking, authenticator, statistics, budget, told, stop, tls)]
        statistics.register()
        try:
            async with (
                open_listeners(*listeners) as addresses,
                health_server(settings.metrics_host, settings.metrics_port, problem),
            ):
                yield addresses[0], query_client
        finally:
            statistics.unregister()


def _check_sizes(settings: GatewaySettings, kafka: KafkaSettings) -> None:
    """Raise OperatorError if the largest request exceeds a memory limit or Kafka's record size."""
    if settings.max_body_bytes > LARGE_SHARE * settings.max_bodies_bytes:
        raise OperatorError(
            f"--max-bodies-bytes {settings.max_bodies_bytes} leaves no room for a request of --max-body-bytes "
            f"{settings.max_body_bytes}: make it at least {settings.max_body_bytes / LARGE_SHARE:.0f}"
        )
    if settings.max_body_bytes > kafka.max_record_bytes - _RECORD_OVERHEAD_BYTES:
        raise OperatorError(
            f"--max-body-bytes {settings.max_body_bytes} does not fit into Kafka's records: make it at least 64 KiB "
            f"smaller than INFAAS_KAFKA_MAX_RECORD_BYTES ({kafka.max_record_bytes})"
        )


def all_routes(
    inference: InferenceRoutes,
    jobs: JobRoutes,
    admin: AdminRoutes,
    uploads: UploadRoutes,
    models: ModelDirectory,
    statistics: ModelStatisticsTable,
    bodies: RequestBodies,
    problem: Callable[[], Awaitable[str]],
) -> list[web.RouteDef]:
    """Return the routes of all paths; `problem` returns the reason why the gateway is not ready."""
    metadata = MetadataRoutes(models, statistics, bodies, version())
    own = (inference, jobs, metadata, admin, uploads, UnofferedRoutes(models), DocumentRoutes())
    return [*(route for part in own for route in part.routes()), *HealthRoutes(problem).routes("/v2/health")]


def make_app(
    settings: GatewaySettings, routes: Iterable[web.RouteDef], authenticator: Authenticator
) -> web.Application:
    """Return the HTTP application."""
    app = web.Application(
        middlewares=[encode_answers, json_errors, authorization(authenticator)], client_max_size=settings.max_body_bytes
    )
    app.add_routes(routes)
    return app


@asynccontextmanager
async def listening(
    app: web.Application, inference: InferenceRoutes, settings: GatewaySettings, tls: ListenerTls | None
) -> AsyncGenerator[str]:
    """Serve queries with `inference` and all other requests with `app` while the context is open; yield the URL."""
    drain_s = DRAIN_SHARE * settings.drain_timeout_s
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=drain_s)
    await runner.setup()
    try:
        listener = await _listen(runner, inference, settings, tls)
        try:
            host, port = listener.sockets[0].getsockname()[:2]
            yield f"http{'s' * (tls is not None)}://{address_text(host, port)}"
        finally:
            listener.close()
    finally:
        await runner.cleanup()


async def _listen(
    runner: web.AppRunner, inference: InferenceRoutes, settings: GatewaySettings, tls: ListenerTls | None
) -> asyncio.Server:
    # As web.TCPSite does, but with a protocol of ours: a site accepts no other protocol.
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None, "a runner has a server once it is set up"
    limits = ConnectionLimits(connections=settings.max_connections, timeout_s=settings.receive_timeout_s)
    try:
        return await loop.create_server(
            lambda: HttpConnection(server, loop, inference, limits),
            settings.host,
            settings.port,
            backlog=1024,
            reuse_port=settings.reuse_port or None,
            **(tls.server_options(settings.receive_timeout_s) if tls is not None else {}),
        )
    except OSError as error:
        raise OperatorError(listen_words(settings.host, settings.port, error, "--port")) from error


async def _follow_catalog(catalog: CatalogWatcher, models: ModelDirectory, query_client: QueryClient) -> None:
    while True:
        models.update(await catalog.changed())
        await query_client.prefetch_metadata(models.topics, refresh=True)
