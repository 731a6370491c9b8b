"""Client library for asyncio (`InfaasClient`) and for threads (`SyncInfaasClient`), over Kafka or HTTP.

It is also published as a distribution of its own, `infaas-client`. The package `infaas_client` consists of this package
and its imports (see `packages/client/hatch_build.py`). This module is the whole public interface.

Reading order: answer -> client (the asyncio client) -> transport (protocol of a transport) -> generation (prompts and
chats) -> event_reader (answers in parts over HTTP) -> http_transport, kafka_transport -> sync_client (the client for
threads, with an event loop in a thread).
"""

from typing import Final

from broker.kafka.settings import KafkaSettings
from infaas.client.answer import Answer, TextPart
from infaas.client.client import InfaasClient, QueryOptions, SystemOptions
from infaas.client.sync_client import SyncInfaasClient
from process.gateway_access import ClientTls
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
    RefusalReason,
    Unauthenticated,
    UnknownTask,
    Unsatisfiable,
)
from schemas.query import Mode

__version__: Final = version(__name__.partition(".")[0])
"""Version of the distribution that contains this package, `infaas` or `infaas_client`; both have the same version."""

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
    "RefusalReason",
    "SyncInfaasClient",
    "SystemOptions",
    "TextPart",
    "Unauthenticated",
    "UnknownTask",
    "Unsatisfiable",
    "__version__",
]
