"""Identity of a system: each start checks that Kafka's namespace and Postgres belong to the same system.

The id of a system is created with its tables. The topic `<namespace>.system` in Kafka holds the same id; the first
start writes it, and so does the first start after Kafka lost its topics. Postgres stores the namespace, so that no
service of the system runs in another namespace by mistake.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from broker.kafka.cluster import ping
from broker.kafka.settings import KafkaSettings
from broker.system_claim import claim_namespace as claim_in_kafka
from process.command_line import Dependency, run_command
from process.settings import ServiceSettings
from schemas.errors import OperatorError
from schemas.topics import NAMESPACE_ENV
from store.migrate import require_current, require_current_at
from store.pool import DatabaseSession, open_pool
from store.settings import StoreSettings
from store.system import claim_namespace as claim_in_postgres
from store.system import read_system

_WITHIN_S: Final = 15.0
_Service = TypeVar("_Service", bound=ServiceSettings)


async def join_system(session: DatabaseSession, kafka: KafkaSettings, *, take_over: bool = False) -> None:
    """Check that Kafka's namespace belongs to the system of these tables, and claim it if it is unclaimed.

    Args:
        session: The tables, which are of the version of this program.
        kafka: How to reach Kafka.
        take_over: Replace the system in Kafka and the namespace in Postgres, if they are others.

    Raises:
        OperatorError: the topics belong to another system, or the tables to another namespace; or Kafka does not answer
            in time.
        StoreUnavailable: Postgres cannot be reached.
    """
    try:
        async with asyncio.timeout(_WITHIN_S):
            await _join(session, kafka, take_over=take_over)
    except TimeoutError:
        raise OperatorError(
            f"reading the system of the topics in Kafka at {kafka.bootstrap} took more than {_WITHIN_S:g} s"
        ) from None


async def join_system_at(kafka: KafkaSettings, store: StoreSettings) -> None:
    """Check that the Kafka and the Postgres of these settings belong to one system; see `join_system`.

    Raises:
        OperatorError: also if the tables are missing, or older or newer than this program.
    """
    async with open_pool(store.dsn, max_size=1) as pool:
        await require_current(pool)
        await join_system(pool, kafka)


async def _join(session: DatabaseSession, kafka: KafkaSettings, *, take_over: bool) -> None:
    row = await read_system(session)
    if row.namespace not in ("", kafka.namespace) and not take_over:
        raise _other_namespace(row.namespace, kafka.namespace)
    claim = await claim_in_kafka(kafka, row.id, socket.gethostname(), take_over=take_over)
    if claim.system != row.id:
        raise OperatorError(
            f"the topics of the namespace {kafka.namespace} in Kafka at {kafka.bootstrap} belong to another system "
            f"({claim.system}, started on {claim.by}), and this one ({row.id}) would take its queries: set "
            f"{NAMESPACE_ENV} to a namespace of its own, or INFAAS_POSTGRES to that system's Postgres; if its Postgres "
            "is lost, claim its topics by `infaas up --take-over` or `infaas db take-over`"
        )
    row = await claim_in_postgres(session, kafka.namespace, move=take_over)
    if row.namespace != kafka.namespace:
        raise _other_namespace(row.namespace, kafka.namespace)


def _other_namespace(noted: str, ours: str) -> OperatorError:
    return OperatorError(
        f"this Postgres belongs to the system of the namespace {noted}, not {ours}: set {NAMESPACE_ENV}={noted}, or "
        f"use another database; `infaas db take-over` moves the system to the namespace {ours}, without its topics"
    )


def run_service_command(
    module: str,
    settings_class: type[_Service],
    serve: Callable[[_Service, KafkaSettings, StoreSettings, asyncio.Event], Awaitable[None]],
) -> int:
    """Run `python -m module`, a service that needs Kafka and Postgres; return the exit code.

    Before it serves, it checks that both belong to one system (`join_system_at`).
    """
    kafka = Dependency("Kafka", KafkaSettings, ping)
    postgres = Dependency("Postgres", StoreSettings, require_current_at)
    return run_command(module, settings_class, kafka, postgres, join_system_at, serve)
