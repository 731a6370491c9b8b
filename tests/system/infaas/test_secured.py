"""Test of a system with minimal rights: Kafka with SASL, TLS and ACLs, Postgres over TLS, API keys.

The system's principal has the ACLs that `docs/security.md` lists; the test reads them from there.
"""
# pyright: reportPrivateImportUsage=false

import asyncio
import json
import re
import shlex
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from broker.kafka.access import set_password
from broker.kafka.client import client_options
from broker.kafka.settings import KafkaSettings, SaslMechanism
from broker.kafka.topics import TopicSpec, ensure_topics
from infaas.client.client import InfaasClient
from schemas import headers as h
from schemas.topics import JOB_RESULTS, ingress_topic
from tests.doc_commands import block, run_commands
from tests.installed import Environment, build_client
from tests.integration.registry.test_tenant_endpoints import conf
from tests.processes import login_of, variables_of
from tests.proxies import encrypted
from tests.secured_kafka import SecuredKafka
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import page, query
from tests.system.infaas.secrets import places_that_show
from tests.waiting import read_until, until
from zoo.samples import labelled

pytestmark = pytest.mark.needs_minutes

PAGE: Final = Path(__file__).parents[3] / "docs" / "security.md"
SYSTEM, TENANT, STRANGER = "infaas", "acme", "globex"
PASSWORD = "of-the-system"  # pragma: allowlist secret
SECRET: Final = "0123456789abcdef" * 4
SOURCE, SINK = "images", "digits-of-images"
WRITING: Final = ("create", "write")
_KINDS: Final = {
    "topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional-id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}  # fmt: skip

APPLICATION: Final = f"""
import asyncio
import json
import sys

from infaas_client import InfaasClient, InfaasError, KafkaSettings


async def ask():
    async with InfaasClient(kafka=KafkaSettings(), tenant="{TENANT}") as client:
        return await client.infer("digits", json.loads(sys.argv[1]))


try:
    print(asyncio.run(ask()).outputs["logits"].argmax(1).tolist())
except InfaasError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


def published_acls() -> Iterator[AclBinding]:
    """Yield the ACLs that the page lists for the system."""
    ((block,),) = [re.findall(r"<!-- acls:begin -->\n```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    for line in re.sub(r"^allow=.*\n", "", block).splitlines():
        words = iter(shlex.split(line, comments=True)[1:])
        flags = {word.removeprefix("--"): "" if word == "--cluster" else next(words) for word in words}
        prefixed = flags.get("resource-pattern-type") == "prefixed"
        pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
        for flag in flags.keys() & _KINDS:
            yield allowed(_KINDS[flag], flags[flag] or "kafka-cluster", pattern, flags["operation"])


def allowed(kind: ResourceType, name: str, pattern: ResourcePatternType, operation: str) -> AclBinding:
    what = AclOperation[operation.upper()]
    return AclBinding(kind, name, pattern, f"User:{SYSTEM}", "*", what, AclPermissionType.ALLOW)


def of_the_job() -> Iterator[AclBinding]:
    """Yield the further ACLs that the page lists for a job from topic to topic."""
    for name, operation in ((SOURCE, "read"), *((f"{SINK}{end}", what) for end in ("", ".failed") for what in WRITING)):
        yield allowed(ResourceType.TOPIC, name, ResourcePatternType.LITERAL, operation)


@pytest.fixture
async def system(secured_kafka: SecuredKafka, tmp_path: Path) -> KafkaSettings:
    """Return the Kafka settings of the system, with its password in a file."""
    file = tmp_path / "kafka-password"
    file.write_text(PASSWORD)
    await set_password(secured_kafka.system, SYSTEM, PASSWORD)
    admin: Any = AdminClient(conf(secured_kafka.system))
    for done in admin.create_acls([*published_acls(), *of_the_job()]).values():
        done.result()
    return secured_kafka.by(SaslMechanism.SCRAM_SHA_512, sasl_username=SYSTEM, sasl_password_file=file)


@pytest.fixture
async def dsn(secured_kafka: SecuredKafka, database: str, tmp_path: Path) -> AsyncGenerator[str]:
    certificates = secured_kafka.certificates
    certificate, key = certificates.issue("postgres")
    async with encrypted(database, certificate, key, certificates.authority, tmp_path) as found:
        yield found


@pytest.fixture
def elsewhere(tmp_path: Path) -> Environment:
    """Return an environment with only the client library and its dependencies."""
    return Environment(tmp_path / "elsewhere", build_client(tmp_path / "built"))


async def test_secured_system_serves_tenant_with_minimal_acls(
    cli: Cli, secured_kafka: SecuredKafka, system: KafkaSettings, dsn: str, elsewhere: Environment
) -> None:
    env = variables_of(system, dsn) | {
        "INFAAS_AUTOSCALER_TRIM_INTERVAL_S": "1",
        "INFAAS_AUTOSCALER_SWEEP_INTERVAL_S": "1",
        "INFAAS_SELECTOR_TENANT_HEADERS": "refused",
        "INFAAS_SIGNING_SECRET": SECRET,
    }
    async with cli.up("--auth", "--jobs=1", **env):
        state = await cli.state()
        assert all(service["ready"] for service in state["services"].values())
        # A running system's home has the logins, so commands do not need the environment of `up`.
        (made,) = await cli.register("digits_linear.onnx", "--name=linear", task="digits")
        assert made["state"] == "ready", "a worker has made it"
        password = await run_commands(block("docs/security.md#8"), cli.home.parent, cli.environment())
        tenant = secured_kafka.user(TENANT, password.strip())
        key = (await cli.json("keys", "create", f"--tenant={TENANT}"))["key"]
        await ask_from_elsewhere(elsewhere, secured_kafka, tenant)
        await ask(InfaasClient(gateway=state["gateway"], key=key))
        await keep_a_job(state["gateway"], key)
        await answer_a_topic(cli, secured_kafka.system)
        await replay_a_dead_letter(cli, tenant)
        await until(lambda: trimmed(state["services"]["autoscaler"]["metrics"]))
        read = {(row["topic"], row["health"]) for row in (await cli.json("lag"))["lag"]}
        assert {(topic, "ok") for topic in (ingress_topic(TENANT), JOB_RESULTS)} <= read
        for going in (("tenants", "remove", TENANT), ("unregister", "digits", "--force")):
            code, _, err = await cli.run(*going, "--results-grace=0")
            assert code == 0, err
        assert await places_that_show(cli, state, [PASSWORD, SECRET, key, password.strip()], env) == []
    logs = "".join(path.read_text() for path in (cli.home / "logs").iterdir())
    assert "stopping" in logs
    assert "uthorization" not in logs, "nothing was refused, by whoever it is tried again"


async def ask_from_elsewhere(elsewhere: Environment, secured: SecuredKafka, tenant: KafkaSettings) -> None:
    """Query as the tenant's user with the client library alone; for wrong users the error names the cause."""
    inputs, labels = labelled("digits")
    rows = {"input": inputs["input"][:4].tolist()}

    async def asked_as(user: KafkaSettings) -> tuple[int | None, str, str]:
        login = login_of(user) | {"INFAAS_KAFKA_SASL_PASSWORD": user.password or ""}
        code, out, err = await elsewhere.output("python", "-c", APPLICATION, json.dumps(rows), **login)
        return code, out, "".join(err.splitlines()[-1:])

    await set_password(secured.system, STRANGER, PASSWORD)
    users = tenant, secured.user(TENANT, "guessed"), secured.user(STRANGER, PASSWORD)
    answered, guessed, strange = await asyncio.gather(*map(asked_as, users))
    assert answered == (0, f"{labels[:4].tolist()}\n", "")
    assert guessed[:2] == strange[:2] == (1, "")
    assert re.match(r"OperatorError: Kafka at \S+ refused the credentials; check .*SASL_PASSWORD", guessed[2])
    assert re.match(r"OperatorError: .* has tenant acme been created .*, for this user\?", strange[2])


async def ask(client: InfaasClient) -> None:
    async with client:
        answer = await client.infer("digits", {"input": labelled("digits")[0]["input"][:2]})
        assert answer.outputs["logits"].shape == (2, 10)


async def keep_a_job(gateway: str, key: str) -> None:
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as http:
        jobs = f"{gateway}/v2/models/digits/jobs"
        async with http.post(jobs, data=query()) as kept:
            assert kept.status == 202, await kept.text()
            job = (await kept.json())["id"]

        async def state() -> str:
            async with http.get(f"{jobs}/{job}") as found:
                return (await found.json())["state"]

        assert await read_until(state, lambda now: now not in ("queued", "running")) == "succeeded"


async def answer_a_topic(cli: Cli, super_user: KafkaSettings) -> None:
    """Run a batch job on another party's topic, in transactions."""
    await ensure_topics(super_user, [TopicSpec(SOURCE, 2)])
    async with producing(super_user) as producer:
        for number in range(20):
            await producer.send_and_wait(SOURCE, query(), partition=number % 2)
    done = await cli.json("batch", f"topic:{SOURCE}", f"topic:{SINK}", "--task=digits")
    assert (done["answered"], done["failed"]) == (20, 0)


async def replay_a_dead_letter(cli: Cli, tenant: KafkaSettings) -> None:
    """Write an unreadable query as the tenant, and replay it."""
    async with producing(tenant) as producer:
        await producer.send_and_wait(ingress_topic(TENANT), b"{}", headers=[(h.ID, b"odd"), (h.TASK, b"no task")])
    (letter,) = await read_until(lambda: cli.json("dead-letters", "list"), bool)
    assert (await cli.json("dead-letters", "replay", letter["letter"]))["replayed"] == 1


def producing(kafka: KafkaSettings) -> AIOKafkaProducer:
    options: Any = client_options(kafka, "somebody")
    return AIOKafkaProducer(**options)


async def trimmed(metrics: str) -> bool:
    """Return true if the autoscaler has trimmed a partition."""
    found = re.search(r"^infaas_trimmed_partitions_total (\S+)$", await page(metrics), re.MULTILINE)
    return found is not None and float(found.group(1)) > 0
