"""Tests of a tenant's Kafka principal: each operation on each topic, on groups and on the cluster.

The client is confluent-kafka. `docs/security.md` has the table of results, which this test checks; `DOORS=write pytest
...` writes it again.
"""
# pyright: reportPrivateImportUsage=false

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.errors import for_code
from aiokafka.protocol.admin import DescribeAclsRequest
from aiokafka.protocol.fetch import FetchRequest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker.kafka.access import forget_password
from broker.kafka.client import new_client
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import (
    TopicSpec,
    ensure_system_topics,
    ensure_task_topics,
    ensure_topics,
    ensure_variant_topics,
)
from registry.tenants import create_tenant
from schemas import topics
from schemas.rows.tenants import Tenant
from store.pool import Pool
from tests.secured_kafka import SecuredKafka

PAGE: Final = Path(__file__).parents[3] / "docs" / "security.md"
BEGIN, END = "<!-- doors:begin -->", "<!-- doors:end -->"
TASK, VARIANT, OWN, OTHER = "sentiment", "cnn.onnx-fp32.cpu", "acme", "globex"
DONE: Final = "done"
_WAIT_S: Final = 20.0
ACTS: Final = ("write", "read", "delete", "trim", "configure", "grow")


def conf(settings: KafkaSettings) -> dict[str, Any]:
    """Return the settings in the form of confluent-kafka."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": settings.sasl_mechanism.value,
        "sasl.username": settings.sasl_username,
        "sasl.password": settings.password,
        "ssl.ca.location": str(settings.tls_ca),
        "log_level": 0,
    }


class Intruder:
    """A client with the principal of one tenant that attempts every operation."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._conf = conf(settings)
        self._admin: Any = AdminClient(self._conf)

    def write(self, names: Iterable[str]) -> dict[str, str]:
        """Return the result of producing a record to each topic."""
        told = dict[str, str]()

        def on_delivery(topic: str, error: Any, _message: object) -> None:
            told[topic] = error.name() if error is not None else DONE

        producer = Producer({**self._conf, "message.timeout.ms": int(_WAIT_S * 1000)})
        for topic in names:
            producer.produce(topic, b"x", on_delivery=partial(on_delivery, topic))
        producer.flush(_WAIT_S)
        return told

    async def read(self, names: Iterable[str]) -> dict[str, str]:
        """Return the result of fetching from each topic, without the checks that client libraries make first."""
        wanted = [(topic, [(0, 0, 1024)]) for topic in names]
        answer = await self._send(FetchRequest(0, 1, 1 << 20, 0, wanted))
        return {topic: _named(code) for topic, ((_number, code, *_rest), *_more) in answer.topics}

    async def list_acls(self) -> str:
        """Return the result of listing the ACLs, which confluent-kafka reports as an empty list."""
        anything = 1
        answer = await self._send(DescribeAclsRequest(2, "infaas.", 4, f"User:{OWN}", "*", anything, anything))
        return _named(answer.error_code)

    async def _send(self, request: Any) -> Any:
        client = new_client(self._settings, "intruder")
        await client.bootstrap()
        try:
            return await client.send(1, request)
        finally:
            await client.close()

    def delete(self, names: Iterable[str]) -> dict[str, str]:
        return self._said(self._admin.delete_topics(list(names)))

    def trim(self, names: Iterable[str]) -> dict[str, str]:
        asked = self._admin.delete_records([TopicPartition(topic, 0, 1) for topic in names])
        return {partition.topic: _told(future.result) for partition, future in asked.items()}

    def configure(self, names: Iterable[str]) -> dict[str, str]:
        entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
        asked = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry]) for topic in names]
        return {r.name: _told(f.result) for r, f in self._admin.incremental_alter_configs(asked).items()}

    def grow(self, names: Iterable[str]) -> dict[str, str]:
        return self._said(self._admin.create_partitions([NewPartitions(topic, 9) for topic in names]))

    def create(self, names: Iterable[str]) -> dict[str, str]:
        return self._said(self._admin.create_topics([NewTopic(topic, 1, 1) for topic in names]))

    def seen_topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=_WAIT_S).topics)

    def groups(self, group: str) -> dict[str, str]:
        """Return the result of each operation on a group."""
        place = [TopicPartition(topics.ingress_topic(OWN), 0, 0)]
        asked = [ConsumerGroupTopicPartitions(group, place)]
        return {
            "join": self._joined(group),
            "read its offsets": _told(self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)])[group].result),
            "set its offsets": _told(self._admin.alter_consumer_group_offsets(asked)[group].result),
            "describe": _told(self._admin.describe_consumer_groups([group])[group].result),
            "delete": _told(self._admin.delete_consumer_groups([group])[group].result),
        }  # fmt: skip

    def _joined(self, group: str) -> str:
        member = Consumer({**self._conf, "group.id": group, "auto.offset.reset": "earliest"})
        member.subscribe([topics.tenant_results_topic(OWN)])
        message = member.poll(_WAIT_S)
        error = message.error() if message is not None else None
        member.close()
        return error.name() if error is not None else DONE

    def transact(self, transactional_id: str) -> str:
        producer = Producer({**self._conf, "transactional.id": transactional_id})
        return _told(partial(producer.init_transactions, _WAIT_S))

    def administer(self) -> dict[str, str]:
        """Return the result of each operation on the cluster."""
        everybody = (ResourceType.TOPIC, "infaas.", ResourcePatternType.PREFIXED, f"User:{OWN}", "*")
        mine = AclBinding(*everybody, AclOperation.ALL, AclPermissionType.ALLOW)
        theirs = AclBindingFilter(*everybody, AclOperation.ANY, AclPermissionType.ANY)
        password = UserScramCredentialUpsertion(
            "system", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"mine"
        )
        entry = ConfigEntry("log.retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
        broker = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        admin = self._admin
        return {
            "give itself access": _told(admin.create_acls([mine])[mine].result),
            "take access away": _told(admin.delete_acls([theirs])[theirs].result),
            "set another's password": _told(admin.alter_user_scram_credentials([password])["system"].result),
            "configure the broker": _told(admin.incremental_alter_configs([broker])[broker].result),
            "read the broker's configuration": _told(
                admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")])[broker].result
            ),
        }

    def _said(self, asked: Mapping[str, Any]) -> dict[str, str]:
        return {topic: _told(future.result) for topic, future in asked.items()}


def _named(code: int) -> str:
    return for_code(code).__name__ if code else DONE


def _told(act: Callable[[], object]) -> str:
    try:
        act()
    except KafkaException as error:
        return error.args[0].name()
    return DONE


@pytest.fixture
async def intruder(secured_kafka: SecuredKafka, store_pool: Pool) -> Intruder:
    """Return the client of one tenant, in a system whose topics each hold a record."""
    system = secured_kafka.system
    await ensure_system_topics(system)
    await ensure_task_topics(system, TASK, 1)
    await ensure_variant_topics(system, [(VARIANT, 1)])
    await ensure_topics(system, [TopicSpec(topics.reply_topic("gateway-1")), TopicSpec(topics.build_topic("cpu")),
                                 TopicSpec(topics.BUILD_REPORTS)])  # fmt: skip
    for name in (OWN, OTHER):
        await forget_password(system, name)  # another test with another database may have set it in this Kafka
        await create_tenant(store_pool, system, Tenant(name=name, partitions=1, kafka_user=name), "s3cret")
    everything = Intruder(system)
    assert set(everything.write(all_topics()).values()) == {DONE}
    return Intruder(secured_kafka.user(OWN, "s3cret"))


def all_topics() -> list[str]:
    """Return a topic of each kind; the tenant's own topics come last."""
    system = [
        topics.SYSTEM, topics.STATUS, topics.DEMAND, topics.LOAD, topics.SHADOWS, topics.DEAD_LETTERS,
        topics.LETTER_MARKS, topics.JOB_RESULTS, topics.build_topic("cpu"), topics.BUILD_REPORTS,
        topics.reply_topic("gateway-1"),
        *(spec for spec in (topics.task_topic(TASK), topics.offline_topic(TASK), topics.results_topic(TASK))),
        *topics.variant_topics(VARIANT),
    ]  # fmt: skip
    tenants = [
        topic
        for name in (OTHER, OWN)
        for topic in (
            topics.ingress_topic(name), topics.offline_of(topics.ingress_topic(name)), topics.tenant_results_topic(name)
        )
    ]  # fmt: skip
    return system + tenants


def allowed(topic: str) -> set[str]:
    """Return the operations that the tenant may execute on a topic."""
    if topics.tenant_of(topic) == OWN:
        return {"write"}
    return {"write", "read", "delete", "trim"} if topic.startswith(topics.tenant_prefix(OWN)) else set()


async def test_tenant_principal_reaches_only_its_topics(intruder: Intruder) -> None:
    everything = [*all_topics(), "__consumer_offsets"]
    own = topics.tenant_prefix(OWN)
    told = {"write": intruder.write(everything)}
    told["read"] = await intruder.read(everything)
    seen = intruder.seen_topics()
    created = intruder.create(
        [topics.task_topic("invented"), topics.tenant_prefix(OTHER) + "mine", topics.TENANTS + OWN + "2.mine",
         "anything", own + "scratch"]
    )  # fmt: skip
    groups = {
        group: intruder.groups(group)
        for group in (
            topics.SELECTOR_GROUP, topics.variant_group(VARIANT), topics.JOBS_GROUP,
            topics.tenant_prefix(OTHER) + "readers", own + "readers",
        )
    }  # fmt: skip
    transactions = {name: intruder.transact(name) for name in ("infaas.batch.reviews.ratings.0", own + "writer")}
    cluster = intruder.administer() | {"list who may what": await intruder.list_acls()}
    told |= {act: getattr(intruder, act)(everything) for act in ACTS if act not in told and act != "delete"}
    told["delete"] = intruder.delete(everything)
    for act, outcomes in told.items():
        for topic, outcome in outcomes.items():
            assert (outcome == DONE) == (act in allowed(topic)), (act, topic, outcome)
    assert seen == {topic for topic in everything if allowed(topic)}
    assert {topic for topic, outcome in created.items() if outcome == DONE} == {own + "scratch"}
    assert {g for g, outcomes in groups.items() if DONE in outcomes.values()} == {own + "readers"}
    assert not [act for act, outcome in (transactions | cluster).items() if outcome == DONE]
    check_page(
        [
            *table(("topic", *ACTS), [(topic, *(told[act][topic] for act in ACTS)) for topic in everything]),
            *table(("topic", "create"), created.items()),
            *table(("group", *next(iter(groups.values()))), [(g, *told.values()) for g, told in groups.items()]),
            *table(("transactional id", "write under it"), transactions.items()),
            *table(("the cluster", "answer"), cluster.items()),
        ]
    )


async def test_kafka_refuses_unauthenticated_clients(secured_kafka: SecuredKafka, intruder: Intruder) -> None:
    ways = {
        "no TLS": {"security.protocol": "SASL_PLAINTEXT"},
        "no name": {"security.protocol": "SSL"},
        "a wrong password": {"sasl.password": "guess"},  # pragma: allowlist secret
    }
    own = conf(secured_kafka.user(OWN, "s3cret"))

    def told(changed: dict[str, str]) -> str:
        return _told(partial(AdminClient(own | changed).list_topics, timeout=2.0))

    outcomes = await asyncio.gather(*(asyncio.to_thread(told, changed) for changed in ways.values()))
    assert DONE not in outcomes


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table, with error names in lower case."""
    heads = list(columns)
    lines = ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        first, *others = row
        lines.append(
            " | ".join([f"| `{first}`" if "." in first or "_" in first else f"| {first}", *map(_short, others)]) + " |"
        )
    return lines


def _short(outcome: str) -> str:
    return re.sub(r"^\w+?_?A(UTHORIZATION_FAILED|uthorizationFailedError)$", "refused", outcome).lower()


def check_page(lines: list[str]) -> None:
    """Compare the lines with the page, or write them to the page if `DOORS=write`."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    now, _, after = rest.partition(END)
    shown = "\n".join(lines).strip()
    if os.environ.get("DOORS") == "write":
        PAGE.write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}")
    else:
        assert now.strip() == shown, "run this test with DOORS=write, and look at what changed"
