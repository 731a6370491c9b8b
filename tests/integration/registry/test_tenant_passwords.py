"""Tests of tenants' Kafka passwords: those set by the system are changed and deleted, others are never touched."""

from uuid import uuid4

import pytest

from broker.kafka.access import has_password, set_password
from broker.topic_logs import topic_names
from registry.tenants import create_tenant, remove_tenant
from schemas.errors import OperatorError
from schemas.rows.tenants import Tenant
from store.pool import Pool
from store.tenants import claim_password
from tests.integration.selector.stage import WAIT_S
from tests.model_files import Quiet
from tests.secured_kafka import SecuredKafka

HERS = "hers"
OURS = "ours"


def tenant_of(user: str) -> Tenant:
    return Tenant(name=f"tenant-{uuid4().hex}", kafka_user=user, partitions=1)


async def removed(kafka: SecuredKafka, pool: Pool, tenant: Tenant) -> None:
    await remove_tenant(pool, kafka.system, tenant.name, Quiet(), drain_timeout_s=WAIT_S, results_grace_s=0.0)


async def logs_in(kafka: SecuredKafka, user: str, password: str) -> None:
    await topic_names(kafka.user(user, password))


async def test_foreign_password_is_left_alone(secured_kafka: SecuredKafka, store_pool: Pool) -> None:
    system, user = secured_kafka.system, f"payroll-{uuid4().hex}"
    await set_password(system, user, HERS)
    tenant = tenant_of(user)
    with pytest.raises(OperatorError, match="INFAAS did not set"):
        await create_tenant(store_pool, system, tenant, OURS)
    await create_tenant(store_pool, system, tenant)
    with pytest.raises(OperatorError, match="INFAAS did not set"):
        await create_tenant(store_pool, system, tenant, OURS)
    await removed(secured_kafka, store_pool, tenant)
    await logs_in(secured_kafka, user, HERS)


async def test_own_password_is_deleted_with_last_tenant(secured_kafka: SecuredKafka, store_pool: Pool) -> None:
    system, user = secured_kafka.system, f"shop-{uuid4().hex}"
    first, second = tenant_of(user), tenant_of(user)
    await create_tenant(store_pool, system, first, "before")
    for tenant in (first, second):
        await create_tenant(store_pool, system, tenant, OURS)
    await removed(secured_kafka, store_pool, first)
    await logs_in(secured_kafka, user, OURS)
    await create_tenant(store_pool, system, Tenant(name=second.name, kafka_user=f"other-{user}", partitions=1))
    assert not await has_password(system, user)
    await set_password(system, user, HERS)  # a password of another system by now
    with pytest.raises(OperatorError, match="INFAAS did not set"):
        await create_tenant(store_pool, system, tenant_of(user), OURS)


async def test_interrupted_password_can_be_set_again(secured_kafka: SecuredKafka, store_pool: Pool) -> None:
    system, user = secured_kafka.system, f"cut-off-{uuid4().hex}"
    await claim_password(store_pool, user)
    await set_password(system, user, OURS)
    await create_tenant(store_pool, system, tenant_of(user), OURS)
    await logs_in(secured_kafka, user, OURS)
