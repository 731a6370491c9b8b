"""The listeners of a gateway, one for each protocol.

They open one after the other, so that a taken port raises its own error. They close concurrently: each waits for its
own clients, and both may use the whole drain timeout.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from gateway.authentication import Authenticator
from gateway.inference import Inference
from gateway.limits.arrivals import Arrivals
from gateway.limits.memory import BodyBudget
from gateway.model_directory import ModelDirectory
from gateway.settings import GatewaySettings
from gateway.statistics import ModelStatisticsTable
from process.tls import ListenerTls
from process.version import version
from schemas.errors import OperatorError

DRAIN_SHARE: Final = 0.8
"""Share of the drain timeout for requests; the rest is for closing connections to Kafka and Postgres."""


@asynccontextmanager
async def open_listeners(*listeners: AbstractAsyncContextManager[str]) -> AsyncGenerator[list[str]]:
    """Open listeners; yield their addresses in the same order."""
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


def grpc_listener(
    settings: GatewaySettings,
    models: ModelDirectory,
    inference: Inference,
    authenticator: Authenticator,
    statistics: ModelStatisticsTable,
    bodies: BodyBudget,
    problem: Callable[[], Awaitable[str]],
    stop: asyncio.Event,
    tls: ListenerTls | None,
) -> AbstractAsyncContextManager[str]:
    """Return the listener of gRPC at the port of the settings.

    Raises:
        OperatorError: the packages of gRPC are not installed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr; our code logs errors
    try:
        from gateway.grpc.callers import Callers
        from gateway.grpc.server import grpc_listening
        from gateway.grpc.service import InferenceService
    except ImportError as error:
        raise OperatorError(f"--grpc-port needs gRPC ({error}): pip install 'infaas[grpc]'") from None
    arrivals = Arrivals(settings)
    callers = Callers(authenticator, models)
    service = InferenceService(callers, inference, statistics, bodies, settings, arrivals, problem, version(), stop)
    return grpc_listening(settings, service, arrivals, problem, stop, tls, DRAIN_SHARE * settings.drain_timeout_s)


async def _close(listener: AbstractAsyncContextManager[str]) -> None:
    await listener.__aexit__(None, None, None)
