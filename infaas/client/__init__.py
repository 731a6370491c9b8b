"""The client library: asks a task by Kafka or by HTTP, from asyncio (`InfaasClient`) or threads (`SyncInfaasClient`).

It is a distribution of its own, too: `infaas-client`, whose package `infaas_client` is made of this one and of what it
imports (`client/hatch_build.py`). This is all of its public surface.

Reading order: client (queries in, answers out) -> transport (what a way to ask must do) -> client_tls (whom it trusts)
-> http_transport, kafka_transport -> loop_thread (an event loop for who has none) -> sync_client (the client on it).
"""

from typing import Final

from broker.settings import KafkaSettings
from infaas.client.client import Answer, InfaasClient, QueryOptions, SystemOptions
from infaas.client.client_tls import ClientTls
from infaas.client.sync_client import SyncInfaasClient
from process.version import version
from schemas.errors import (
    DeadlineExceeded,
    ErrorCode,
    Forbidden,
    InfaasError,
    Internal,
    InvalidRequest,
    ModelFailed,
    OperatorError,
    Overloaded,
    QueryError,
    QuotaExceeded,
    Unauthenticated,
    UnknownTask,
    Unsatisfiable,
)
from schemas.needs import Mode

__version__: Final = version(__name__.partition(".")[0])
"""Of the distribution that this is in, `infaas` or `infaas_client`: both are released as one version."""

__all__ = [
    "Answer",
    "ClientTls",
    "DeadlineExceeded",
    "ErrorCode",
    "Forbidden",
    "InfaasClient",
    "InfaasError",
    "Internal",
    "InvalidRequest",
    "KafkaSettings",
    "Mode",
    "ModelFailed",
    "OperatorError",
    "Overloaded",
    "QueryError",
    "QueryOptions",
    "QuotaExceeded",
    "SyncInfaasClient",
    "SystemOptions",
    "Unauthenticated",
    "UnknownTask",
    "Unsatisfiable",
    "__version__",
]
