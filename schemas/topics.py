"""Names of topics and consumer groups.

All names begin with the namespace of the system, so that several systems can share one Kafka cluster. The default is
`infaas`; with `INFAAS_KAFKA_NAMESPACE=staging` a topic is named `staging.tasks.<task>`. The namespace belongs to the
process, not to a connection: it is read once, when this module is imported, so that names are constants.
`broker.kafka.settings` refuses an invalid namespace.

Topics of tasks, variants and tenants cannot be confused with each other's topics of offline queries: the name of a task
or tenant contains no dot, and the name of a variant ends in its hardware. For the same reason, every topic that begins
with a tenant's prefix belongs to that tenant.
"""

import os
import re
from hashlib import blake2b
from typing import Final

NAMESPACE_ENV: Final = "INFAAS_KAFKA_NAMESPACE"
DEFAULT_NAMESPACE: Final = "infaas"
NAMESPACE: Final = os.environ.get(NAMESPACE_ENV, DEFAULT_NAMESPACE)
"""Namespace of the topics, groups and transactional ids of this process's system."""

PREFIX: Final = f"{NAMESPACE}."
TASKS: Final = f"{PREFIX}tasks."
VARIANTS: Final = f"{PREFIX}variants."
RESULTS: Final = f"{PREFIX}results."
REPLIES: Final = f"{PREFIX}replies."
GATEWAY: Final = "gateway-"
"""Beginning of the owners of gateways' reply topics."""
_GATEWAY_REPLIES: Final = REPLIES + GATEWAY
INGRESS: Final = f"{PREFIX}ingress."
TENANTS: Final = f"{PREFIX}tenants."

SYSTEM: Final = f"{PREFIX}system"  # SystemClaim: the system that owns this namespace; kept forever
STATUS: Final = f"{PREFIX}status"  # WorkerStatus of every worker, each ~100 ms; key = worker
DEMAND: Final = f"{PREFIX}demand"  # Demand: a selector asks the autoscaler for an inactive variant
LOAD: Final = f"{PREFIX}load"  # SelectorLoad of every selector, once a second; key = selector
SHADOWS: Final = f"{PREFIX}shadows"  # results of copied queries and of their copies; key = id
DEAD_LETTERS: Final = f"{PREFIX}dead-letters"
LETTER_MARKS: Final = f"{PREFIX}dead-letters.marks"  # states of dead letters; key = partition/offset of the dead letter
BUILDS: Final = f"{PREFIX}builds."
BUILD_REPORTS: Final = f"{PREFIX}build-reports"  # BuildReport of a worker that begins or ends a build; key = build

SELECTOR_GROUP: Final = f"{PREFIX}selector"
OFFLINE_SELECTOR_GROUP: Final = f"{PREFIX}selector.offline"
WORKER_GROUPS: Final = tuple(f"{PREFIX}workers.{number}" for number in range(16))
"""Groups that variants share, so that a worker commits all of its partitions with few requests. More than one, so that
several brokers store the offsets."""
JOB_RESULTS: Final = f"{PREFIX}jobs"  # results of jobs, read by the jobs services in the group of the same name
LANES: Final = f"{PREFIX}lanes.offline"  # tenant lanes: the offline queries of each tenant and task share one partition
LANE_COUNT: Final = 16
JOBS_GROUP: Final = JOB_RESULTS
_OFFLINE: Final = ".offline"
_REPLIES: Final = "replies."

_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_KAFKAS_OWN: Final = "__"


def is_namespace(text: str) -> bool:
    """Return true if `text` is a valid namespace.

    A namespace contains no dot, so the names of two namespaces never collide.
    """
    return _NAMESPACE.fullmatch(text) is not None


def batch_group(source: str, sink: str) -> str:
    """Return the consumer group, and prefix of the transactional ids, of a streaming batch between two topics."""
    return f"{PREFIX}batch.{source}.{sink}"


def task_topic(task: str) -> str:
    """Return the topic to which clients send the online queries of a task."""
    return TASKS + task


def offline_topic(task: str) -> str:
    """Return the topic to which clients send a task's offline queries, which wait there until a worker is idle."""
    return TASKS + task + _OFFLINE


def query_topic(task: str, *, offline: bool) -> str:
    """Return the topic to which clients send a query."""
    return offline_topic(task) if offline else task_topic(task)


def task_of(topic: str) -> str:
    """Return the task whose queries, online or offline, arrive on `topic`."""
    return topic.removeprefix(TASKS).removesuffix(_OFFLINE)


def ingress_topic(tenant: str) -> str:
    """Return the topic to which only this tenant sends online queries, for any task."""
    return INGRESS + tenant


def offline_of(topic: str) -> str:
    """Return the topic of offline queries that belongs to a topic of online queries."""
    return topic + _OFFLINE


def tenant_of(topic: str) -> str | None:
    """Return the tenant whose queries, online or offline, arrive on `topic`; None: it is not an ingress topic."""
    return topic.removeprefix(INGRESS).removesuffix(_OFFLINE) if topic.startswith(INGRESS) else None


def tenant_prefix(tenant: str) -> str:
    """Return the prefix of all topics and groups that belong to a tenant."""
    return f"{TENANTS}{tenant}."


def tenant_results_topic(tenant: str) -> str:
    """Return the topic of a tenant's results if its query names none."""
    return tenant_prefix(tenant) + "results"


def tenant_reply_topic(tenant: str, owner: str) -> str:
    """Return the private reply topic of one client process of a tenant."""
    return f"{tenant_prefix(tenant)}{_REPLIES}{owner}"


def is_gateways_reply_topic(topic: str) -> bool:
    """Return true if a topic is the private reply topic of a gateway."""
    return topic.startswith(_GATEWAY_REPLIES)


def is_reply_topic(topic: str) -> bool:
    """Return true if a topic is the private reply topic of a process, which is deleted when its owner is gone."""
    return topic.startswith(REPLIES) or (
        topic.startswith(TENANTS) and topic.removeprefix(TENANTS).partition(".")[2].startswith(_REPLIES)
    )


def variant_topic(variant: str) -> str:
    """Return the topic to which selectors send the online queries of a variant."""
    return VARIANTS + variant


def offline_variant_topic(variant: str) -> str:
    """Return the topic to which selectors send the offline queries of a variant."""
    return VARIANTS + variant + _OFFLINE


def variant_topics(variant: str) -> tuple[str, str]:
    """Return both topics of a variant's queries. A worker serves the same partitions of both."""
    return variant_topic(variant), offline_variant_topic(variant)


def variant_of(topic: str) -> str | None:
    """Return the variant whose queries, online or offline, arrive on `topic`; None: it is not a variant's topic."""
    return topic.removeprefix(VARIANTS).removesuffix(_OFFLINE) if topic.startswith(VARIANTS) else None


def is_offline(topic: str) -> bool:
    """Return true if a topic of work holds offline queries."""
    return topic.endswith(_OFFLINE)


def variant_group(variant: str) -> str:
    """Return the consumer group in which the workers of a variant commit, one of `WORKER_GROUPS`."""
    return WORKER_GROUPS[blake2b(variant.encode(), digest_size=1).digest()[0] % len(WORKER_GROUPS)]


def build_topic(hardware: str) -> str:
    """Return the topic, with one partition, to which registrations send build steps for workers of a hardware type."""
    return BUILDS + hardware


def build_group(hardware: str) -> str:
    """Return the consumer group in which the workers of a hardware type commit build steps after storing them."""
    return BUILDS + hardware


def results_topic(task: str) -> str:
    """Return the topic of a task's results if the client names none."""
    return RESULTS + task


def reply_topic(owner: str) -> str:
    """Return the private reply topic of one gateway or client process."""
    return REPLIES + owner


def is_topic(name: str) -> bool:
    """Return true if `name` is a valid Kafka topic.

    Never send to an invalid topic: aiokafka's client does not recover from it.
    """
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def is_work(topic: str) -> bool:
    """Return true if a topic holds queries or job results, which must not be deleted before they are processed."""
    return topic.startswith((TASKS, INGRESS, VARIANTS)) or topic in (JOB_RESULTS, LANES)


def may_reply_to(topic: str, tenant: str | None = None) -> bool:
    """Return true if a client may have results sent to `topic`.

    Topics that this system or Kafka itself reads are not allowed. A tenant's own topics are allowed only for queries
    that are proved to come from that `tenant`.
    """
    if not is_topic(topic) or topic.startswith(_KAFKAS_OWN):
        return False
    if topic.startswith(TENANTS):
        return tenant is not None and topic.startswith(tenant_prefix(tenant))
    return not topic.startswith(PREFIX) or topic.startswith((RESULTS, REPLIES)) or topic == JOB_RESULTS
