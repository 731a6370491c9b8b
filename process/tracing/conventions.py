"""Names of spans and attributes: the messaging conventions of OpenTelemetry, version 1.44.0, status Development.

The version is stated in each export as the scope's schema URL. A convention that changes later is changed here only.
Ours begin with `infaas.`: the standard has no words for a choice, and its `queue` is a destination, not a time.
"""

from enum import StrEnum
from typing import Final, TypeAlias

from schemas.query import Query

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

Attributes: TypeAlias = dict[str, str | int | float | bool | list[str]]

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
TEMPORARY: Final = "messaging.destination.temporary"
PARTITION: Final = "messaging.destination.partition.id"
OFFSET: Final = "messaging.kafka.offset"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"

TASK: Final = "infaas.task"
MODEL: Final = "infaas.model"
TENANT: Final = "infaas.tenant"
INPUTS: Final = "infaas.inputs"
ATTEMPT: Final = "infaas.attempt"
VARIANT: Final = "infaas.variant"
WORKER: Final = "infaas.worker"
PREDICTED_MS: Final = "infaas.predicted_ms"
LATENCY_MS: Final = "infaas.latency_ms"
ACCURACY: Final = "infaas.accuracy"
COST: Final = "infaas.cost"
REASON: Final = "infaas.reason"
REFUSAL: Final = "infaas.refusal"
CONSIDERED: Final = "infaas.considered"
REPLY_STREAM: Final = "infaas.reply_stream"
SLOT: Final = "infaas.slot"
LATE: Final = "infaas.late"


class Operation(StrEnum):
    """Operation of a span on a topic; the type of the same name is the standard's, except that of `queue`."""

    SEND = "send"
    PROCESS = "process"
    QUEUE = "queue"


def span_name(operation: Operation, topic: str, *, temporary: bool = False) -> str:
    """Return the name of a span; a topic that one process made for itself does not name it."""
    return f"{operation} {'(temporary)' if temporary else topic}"


def on_topic(operation: Operation, topic: str, query_id: str) -> Attributes:
    """Return the attributes of a span about one record of a topic."""
    found: Attributes = {SYSTEM: "kafka", OPERATION: operation.value, DESTINATION: topic, MESSAGE_ID: query_id}
    if operation is not Operation.QUEUE:
        found[OPERATION_TYPE] = operation.value
    return found


def of_query(query: Query) -> Attributes:
    """Return the attributes of a query in the spans of all services that know its needs."""
    found: Attributes = {INPUTS: query.batch}
    if query.tenant is not None:
        found[TENANT] = query.tenant
    if query.needs.latency_ms is not None:
        found[LATENCY_MS] = query.needs.latency_ms
    return found
