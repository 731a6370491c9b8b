"""Tests of tenants in the admin API on a Kafka with SCRAM and ACLs: creation, access rights and removal."""

import json
from uuid import uuid4

import pytest

from broker.kafka.topics import ensure_system_topics
from broker.producing.producer import Producer
from broker.topic_logs import topic_names
from process.security.signature import parse_key
from schemas.access import Role
from schemas.errors import OperatorError
from schemas.topics import ingress_topic
from store.audit import list_acts
from store.pool import Pool
from tests.integration.admin.test_keys import Desk
from tests.integration.gateway.test_authentication import guarded, new_key
from tests.secured_kafka import SecuredKafka
from tests.unit.infaas.shell import Shell

SECRET = "0123456789abcdef" * 2
NAME = f"acme-{uuid4().hex[:8]}"


async def test_tenants_commands_cover_the_lifecycle_of_a_tenant(
    secured_kafka: SecuredKafka, database: str, store_pool: Pool, shell: Shell, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("INFAAS_SIGNING_SECRET", SECRET)
    system = secured_kafka.system
    for name, text in connecting(secured_kafka).items():
        monkeypatch.setenv(name, text)
    await ensure_system_topics(system)
    admin = await new_key(store_pool, None, Role.ADMIN)
    async with guarded(system, database) as (gateway,):
        desk = Desk(shell, gateway.url, admin, database, monkeypatch)
        password = (await desk.run("tenants", "create", NAME, "--kafka-user", NAME, "--scram")).strip()
        async with Producer(secured_kafka.user(NAME, password), "tenant") as producer:
            await producer.send_and_wait(f"infaas.tenants.{NAME}.results", b"{}")
        seen = await topic_names(secured_kafka.user(NAME, password))
        shown = json.loads(await desk.both("tenants", "show", NAME, "--json"))
        assert shown["asks_in"] == [ingress_topic(NAME), f"{ingress_topic(NAME)}.offline"]
        assert set(seen) == {*shown["asks_in"], shown["answered_in"]}, "and none of the system's or of others"
        assert all(f"User:{NAME}" in command for command in shown["acls"])
        assert NAME in await desk.both("tenants", "list")
        key = (await desk.both("tenants", "key", NAME)).strip()
        renewed = (await desk.run("tenants", "key", NAME, "--renew")).strip()
        present = parse_key(renewed).name
        assert present != parse_key(key).name
        body = {"replaces": int(parse_key(key).name.rpartition(".")[2])}
        status, headers, found = await gateway.ask(admin, f"/v1/tenants/{NAME}/signing-key", json=body)
        assert (status, found["key"], headers["Cache-Control"]) == (200, renewed, "no-store")
        assert await gateway.status(admin, "/v1/tenants/nobody", "GET") == 404
        assert await gateway.status(admin, "/v1/tenants/No%20name", "PUT", json={}) == 400
        assert await gateway.status(admin, f"/v1/tenants/{NAME}", "PUT", json={"password": "x"}) == 400
        wait = ("--results-grace", "0")
        await desk.run("tenants", "remove", NAME, *wait)
        gone = [await desk.run("tenants", "remove", NAME, *wait, code=1, remote=remote) for remote in (True, False)]
        assert all("there is no tenant" in said for said in gone)
    with pytest.raises(OperatorError):
        await topic_names(secured_kafka.user(NAME, password))
    acts = json.dumps([[act.verb, act.subject, act.detail, act.error] for act in await list_acts(store_pool)])
    assert {"create-tenant", "remove-tenant", "show-signing-key"} <= {act.verb for act in await list_acts(store_pool)}
    for secret in (password, key.rpartition(".")[2], renewed.rpartition(".")[2], SECRET):
        assert secret not in acts + caplog.text


def connecting(secured: SecuredKafka) -> dict[str, str]:
    """Return the environment variables with which local commands connect to Kafka."""
    system = secured.system
    return {
        "INFAAS_KAFKA": system.bootstrap,
        "INFAAS_KAFKA_SECURITY_PROTOCOL": system.security_protocol.value,
        "INFAAS_KAFKA_SASL_MECHANISM": system.sasl_mechanism.value,
        "INFAAS_KAFKA_SASL_USERNAME": system.sasl_username or "",
        "INFAAS_KAFKA_SASL_PASSWORD": system.password or "",
        "INFAAS_KAFKA_TLS_CA": str(system.tls_ca),
    }
