"""AsyncAPI 3 document: the records that clients may send to and receive from the system over Kafka."""

from typing import Any, Final

from schemas import headers as h
from schemas import topics
from schemas.defaults import KAFKA_PORT, LOOPBACK
from schemas.documents import components
from schemas.documents.components import ref

VERSION: Final = "3.1.0"
_KAFKA: Final = "0.5.0"
_BINARY: Final = "application/octet-stream"


def document() -> dict[str, Any]:
    """Return the complete AsyncAPI document."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "INFaaS",
            "version": "1.0.0",
            "description": "Name a task and what you need; the system picks the model, the hardware and the scale. A "
            "query's value is an Open Inference Protocol v2 request, in JSON or with the binary tensor extension; "
            "CloudEvents 1.0 in binary or structured mode are read as well.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {"host": f"{LOOPBACK}:{KAFKA_PORT}", "protocol": "kafka", "description": "See INFAAS_KAFKA."}
        },
        "channels": {name: _channel(*row) for name, row in _CHANNELS.items()},
        "operations": {name: _operation(*row) for name, row in _OPERATIONS.items()},
        "components": {"messages": _messages(), "schemas": components.struct_schemas(components.REF)},
    }


_TASK: Final = {"task": "The requested task."}
_VARIANT: Final = {"variant": "The chosen variant."}
_SENDER: Final = {"tenant": "The tenant that sends the queries."}
_CHANNELS: Final[dict[str, tuple[str, str, str, dict[str, str]]]] = {
    "tasks": (topics.TASKS + "{task}", "Online queries of a task.", "query", _TASK),
    "offline": (
        topics.offline_topic("{task}"),
        "Offline queries of a task; they wait here until a worker is idle.",
        *("query", _TASK),
    ),
    "lanes": (
        topics.LANES,
        "Tenant lanes: excess offline queries, one partition per tenant and task by hash.",
        *("tenantQuery", {}),
    ),
    "ingress": (
        topics.ingress_topic("{tenant}"),
        "Online queries of one tenant for any task; only that tenant may write.",
        *("tenantQuery", _SENDER),
    ),
    "offlineIngress": (
        topics.offline_of(topics.ingress_topic("{tenant}")),
        "Offline queries of one tenant for any task; only that tenant may write.",
        *("tenantQuery", _SENDER),
    ),
    "tenantResults": (
        topics.tenant_results_topic("{tenant}"),
        "Results of a tenant's queries without a reply topic. All topics with this prefix belong to the tenant.",
        *("result", {"tenant": "The tenant that sent the queries."}),
    ),
    "variants": (topics.variant_topic("{variant}"), "The queue of one variant.", "forwarded", _VARIANT),
    "offlineVariants": (
        topics.offline_variant_topic("{variant}"),
        "Offline queries of one variant; computed when its queue is empty.",
        *("forwarded", _VARIANT),
    ),
    "results": (topics.RESULTS + "{task}", "Results of queries without a reply topic.", "result part", _TASK),
    "replies": (
        topics.REPLIES + "{owner}",
        "Results for one client or gateway, which creates the topic and is its only reader.",
        *("result part", {"owner": "Owner of the topic."}),
    ),
    "jobResults": (topics.JOB_RESULTS, "Results of jobs, for the services that store them.", "result", {}),
    "status": (topics.STATUS, "State of each worker, every 100 ms.", "status", {}),
    "demand": (topics.DEMAND, "Variants that are needed and have no instance.", "demand", {}),
    "load": (topics.LOAD, "Load of each selector, every second.", "load", {}),
    "deadLetters": (topics.DEAD_LETTERS, "Records that could not be processed, unchanged.", "deadLetter", {}),
}
"""Address, description, messages and parameters of each channel."""


def _channel(address: str, description: str, messages: str, parameters: dict[str, str]) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages.split()},
        "bindings": {"kafka": {"bindingVersion": _KAFKA, "topicConfiguration": {"cleanup.policy": ["delete"]}}},
    }
    if parameters:
        channel["parameters"] = {name: {"description": text} for name, text in parameters.items()}
    return channel


_OPERATIONS: Final = {
    "answerQuery": ("receive", "tasks", "Choose a variant for a query."),
    "answerOfflineQuery": ("receive", "offline", "Choose a variant for an offline query when a worker is idle."),
    "answerTenant": ("receive", "ingress", "Choose a variant for a tenant's query."),
    "answerTenantOffline": (
        *("receive", "offlineIngress"),
        "Choose a variant for a tenant's offline query when a worker is idle.",
    ),
    "publishTenantResult": ("send", "tenantResults", "Answer a tenant's query without a reply topic."),
    "forwardQuery": ("send", "variants", "Forward a query to the workers of the chosen variant."),
    "computeQuery": ("receive", "variants", "Compute a query in a batch with others."),
    "forwardOfflineQuery": ("send", "offlineVariants", "Forward an offline query to the workers of a variant."),
    "computeOfflineQuery": ("receive", "offlineVariants", "Compute an offline query when the worker is idle."),
    "publishResult": ("send", "results", "Answer a query without a reply topic."),
    "keepJobResult": ("receive", "jobResults", "Store the result of a job until it is fetched."),
    "publishStatus": ("send", "status", "Publish the instances and the load of a worker."),
    "publishDemand": ("send", "demand", "Request an instance of a variant."),
    "publishLoad": ("send", "load", "Publish the queries of the last second by their needs."),
    "publishDeadLetter": ("send", "deadLetters", "Store a record that could not be processed."),
}
"""Action, channel and summary from the system's point of view: it receives the records that clients send."""
_GROUPS: Final = {
    "tasks": topics.SELECTOR_GROUP,
    "offline": topics.OFFLINE_SELECTOR_GROUP,
    "ingress": topics.SELECTOR_GROUP,
    "offlineIngress": topics.OFFLINE_SELECTOR_GROUP,
}
"""Consumer group of each channel whose queries are answered on a topic that the client names."""


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    described: dict[str, Any] = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}
    if channel not in _GROUPS:
        return described
    return described | {
        "reply": {
            "address": {
                "description": "The topic from which the client reads its results.",
                "location": f"$message.header#/{h.REPLY_TO}",
            },
            "channel": {"$ref": "#/channels/replies"},
            "messages": [{"$ref": "#/channels/replies/messages/result"}],
        },
        "bindings": {"kafka": {"bindingVersion": _KAFKA, "groupId": _constant(_GROUPS[channel])}},
    }


def _messages() -> dict[str, Any]:
    request, response = ref("InferRequest"), {"anyOf": [ref("InferResponse"), ref("ErrorBody")]}
    return {
        "query": _message(
            "A query", components.headers_schema(components.QUERY, [h.ID]), request, key="The id of the query."
        ),
        "tenantQuery": _message(
            "A query of a tenant, in a topic that it alone may write",
            components.headers_schema(components.TENANT_QUERY, [h.ID, h.TASK]),
            request,
            key="The id of the query.",
        ),
        "forwarded": _message(
            "A query on its way to a worker",
            components.headers_schema(components.FORWARDED, [h.ID, h.REPLY_TO, h.TASK, h.CHOICE]),
            request,
            key="The id of the query.",
        ),
        "result": _message(
            "A result",
            components.headers_schema(components.RESULT, [h.ID, h.STATUS]),
            response,
            key="The id of the query.",
        ),
        "part": _message(
            "A part of a generative answer, before its result",
            components.headers_schema(components.PART, [h.ID, h.PART]),
            ref("AnswerPart"),
            key="The id of the query.",
        ),
        "status": _plain("The state of a worker", "WorkerStatus", key="The worker."),
        "demand": _plain("A variant that is needed", "Demand", key="The variant."),
        "load": _plain("The load of a selector", "SelectorLoad", key="The selector."),
        "deadLetter": {
            "title": "A record that could not be processed",
            "summary": (
                "Value, key and headers of the record, unchanged; additional headers contain its place, the reason, "
                "the number of attempts, and the tenant that a signature proved."
            ),
            "contentType": _BINARY,
            "payload": {},
        },
    }


def _message(title: str, headers: dict[str, Any], payload: dict[str, Any], key: str) -> dict[str, Any]:
    return {
        "title": title,
        "headers": headers,
        "payload": payload,
        "correlationId": {"description": "The id of the query.", "location": f"$message.header#/{h.ID}"},
        "bindings": _key(key),
    }


def _plain(title: str, schema: str, key: str) -> dict[str, Any]:
    return {"title": title, "payload": ref(schema), "bindings": _key(key)}


def _key(description: str) -> dict[str, Any]:
    return {"kafka": {"bindingVersion": _KAFKA, "key": {"type": "string", "description": description}}}


def _constant(text: str) -> dict[str, Any]:
    return {"type": "string", "enum": [text]}
