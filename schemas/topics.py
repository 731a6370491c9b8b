"""Names of topics and consumer groups.

All begin with the namespace of the system, so that several systems share one Kafka: `infaas` unless the environment
says otherwise, `INFAAS_KAFKA_NAMESPACE=staging` makes it `staging.tasks.<task>`. It belongs to the process, not to a
connection: it is read once, when this module is imported, so that a name is a constant wherever it is used.
`broker.settings` refuses a namespace that is not allowed.

No task's topic is taken for another one's topic of offline queries, and no variant's: the name of a task holds no dot,
that of a variant ends in its hardware. Nor does the name of a tenant, so what begins with a tenant's prefix is its own.
"""

import os
import re
from typing import Final

NAMESPACE_ENV: Final = "INFAAS_KAFKA_NAMESPACE"
DEFAULT_NAMESPACE: Final = "infaas"
NAMESPACE: Final = os.environ.get(NAMESPACE_ENV, DEFAULT_NAMESPACE)
"""Of the topics, groups and transactional ids of this process's system."""

PREFIX: Final = f"{NAMESPACE}."
TASKS: Final = f"{PREFIX}tasks."
VARIANTS: Final = f"{PREFIX}variants."
RESULTS: Final = f"{PREFIX}results."
REPLIES: Final = f"{PREFIX}replies."
INGRESS: Final = f"{PREFIX}ingress."
TENANTS: Final = f"{PREFIX}tenants."

SYSTEM: Final = f"{PREFIX}system"  # SystemClaim: which system this namespace belongs to; kept for ever
STATUS: Final = f"{PREFIX}status"  # WorkerStatus of every worker, each ~100 ms; key = worker
DEMAND: Final = f"{PREFIX}demand"  # Demand: the selector asks the autoscaler for an inactive variant
LOAD: Final = f"{PREFIX}load"  # SelectorLoad of every selector, once a second; key = selector
SHADOWS: Final = f"{PREFIX}shadows"  # results of queries that were copied, and of the copies; key = id
DEAD_LETTERS: Final = f"{PREFIX}dead-letters"
LETTER_MARKS: Final = f"{PREFIX}dead-letters.marks"  # what became of dead letters; key = partition/offset of the letter
BUILDS: Final = f"{PREFIX}builds."
BUILD_REPORTS: Final = f"{PREFIX}build-reports"  # BuildReport of every worker that begins or ends a build; key = build

SELECTOR_GROUP: Final = f"{PREFIX}selector"
OFFLINE_SELECTOR_GROUP: Final = f"{PREFIX}selector.offline"
JOB_RESULTS: Final = f"{PREFIX}jobs"  # results of jobs, for the jobs services, which share it as a group of that name
LANES: Final = f"{PREFIX}lanes.offline"  # offline queries in tenant lanes: each tenant's of a task in one partition
LANE_COUNT: Final = 16
JOBS_GROUP: Final = JOB_RESULTS
_OFFLINE: Final = ".offline"
_REPLIES: Final = "replies."

_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_KAFKAS_OWN: Final = "__"


def is_namespace(text: str) -> bool:
    """Whether `text` may be a namespace: without a dot, no namespace's names are another one's, too."""
    return _NAMESPACE.fullmatch(text) is not None


def batch_group(source: str, sink: str) -> str:
    """Consumer group, and beginning of the transactional ids, of a streaming batch between two topics."""
    return f"{PREFIX}batch.{source}.{sink}"


def task_topic(task: str) -> str:
    """Topic to which clients send the online queries of a task."""
    return TASKS + task


def offline_topic(task: str) -> str:
    """Topic to which clients send the offline queries of a task, and in which these wait until something is idle."""
    return TASKS + task + _OFFLINE


def query_topic(task: str, *, offline: bool) -> str:
    """Topic to which clients send a query."""
    return offline_topic(task) if offline else task_topic(task)


def task_of(topic: str) -> str:
    """The task whose queries, online or offline, come in on `topic`."""
    return topic.removeprefix(TASKS).removesuffix(_OFFLINE)


def ingress_topic(tenant: str) -> str:
    """Topic to which a tenant, and nobody else, sends online queries of whatever task."""
    return INGRESS + tenant


def offline_of(topic: str) -> str:
    """Topic of offline queries beside that of the online ones of a task, or of a tenant."""
    return topic + _OFFLINE


def tenant_of(topic: str) -> str | None:
    """The tenant whose queries, online or offline, come in on `topic`; None: it is no tenant's."""
    return topic.removeprefix(INGRESS).removesuffix(_OFFLINE) if topic.startswith(INGRESS) else None


def tenant_prefix(tenant: str) -> str:
    """How the names of all topics and groups begin that are a tenant's own."""
    return f"{TENANTS}{tenant}."


def tenant_results_topic(tenant: str) -> str:
    """Topic of a tenant's results when it names none."""
    return tenant_prefix(tenant) + "results"


def tenant_reply_topic(tenant: str, owner: str) -> str:
    """Private reply topic of one client process of a tenant."""
    return f"{tenant_prefix(tenant)}{_REPLIES}{owner}"


def is_reply_topic(topic: str) -> bool:
    """Whether a topic is the private one of a process, which is to go when its owner is gone."""
    return topic.startswith(REPLIES) or (
        topic.startswith(TENANTS) and topic.removeprefix(TENANTS).partition(".")[2].startswith(_REPLIES)
    )


def variant_topic(variant: str) -> str:
    """Topic to which selectors send the online queries of a variant."""
    return VARIANTS + variant


def offline_variant_topic(variant: str) -> str:
    """Topic to which selectors send the offline queries of a variant, beside those that are online."""
    return VARIANTS + variant + _OFFLINE


def variant_topics(variant: str) -> tuple[str, str]:
    """Both topics of a variant's queries. Whoever serves a partition of one serves that of the other."""
    return variant_topic(variant), offline_variant_topic(variant)


def variant_of(topic: str) -> str | None:
    """The variant whose queries, online or offline, come in on `topic`; None: it is no variant's."""
    return topic.removeprefix(VARIANTS).removesuffix(_OFFLINE) if topic.startswith(VARIANTS) else None


def is_offline(topic: str) -> bool:
    """Whether a topic of work is that of offline queries."""
    return topic.endswith(_OFFLINE)


def variant_group(variant: str) -> str:
    """Consumer group under which the workers of a variant commit."""
    return VARIANTS + variant


def build_topic(hardware: str) -> str:
    """Topic, of one partition, to which registrations send what workers of a hardware type are to do."""
    return BUILDS + hardware


def build_group(hardware: str) -> str:
    """Consumer group under which the workers of a hardware type commit what is put down of that."""
    return BUILDS + hardware


def results_topic(task: str) -> str:
    """Topic of a task's results when the client names none."""
    return RESULTS + task


def reply_topic(owner: str) -> str:
    """Private reply topic of one gateway or client process."""
    return REPLIES + owner


def is_topic(name: str) -> bool:
    """Whether Kafka takes `name` for a topic. Nothing may be sent to any other: aiokafka's client never recovers."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def is_work(topic: str) -> bool:
    """Whether a topic holds queries, or results of jobs, of which none may be deleted before it is done."""
    return topic.startswith((TASKS, INGRESS, VARIANTS)) or topic in (JOB_RESULTS, LANES)


def may_reply_to(topic: str, tenant: str | None = None) -> bool:
    """Whether a client may have results sent to `topic`: never to one that this system itself reads, or Kafka does.

    What is a tenant's own is for queries that are proved to be of that `tenant`.
    """
    if not is_topic(topic) or topic.startswith(_KAFKAS_OWN):
        return False
    if topic.startswith(TENANTS):
        return tenant is not None and topic.startswith(tenant_prefix(tenant))
    return not topic.startswith(PREFIX) or topic.startswith((RESULTS, REPLIES)) or topic == JOB_RESULTS
