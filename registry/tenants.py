"""Creates and removes tenants that have topics of their own.

    create    topics -> access of its Kafka user -> password -> row, after which selectors read the topics
    remove    mark the row -> close the ingress topic and answer its queries -> revoke access -> topics -> row

Each step can be repeated: an interrupted call is completed by the same call again. A password that was not set here is
never changed: otherwise a user who may create tenants here could take over any Kafka user.
"""

import asyncio
from typing import Final

from broker.kafka.access import allow, disallow, forget_password, has_password, set_password, tenant_acls
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import ensure_tenant_topics, until_gone
from broker.kafka.types import KafkaError
from broker.topic_logs import topic_names
from registry.request import ProgressSink
from registry.system_identity import join_system
from registry.topics import drain_topics
from schemas.errors import NotFound, OperatorError
from schemas.names import check_name
from schemas.rows.tenants import Tenant
from schemas.topics import ingress_topic, tenant_prefix
from store.pool import Pool
from store.tenants import (
    being_removed,
    claim_password,
    delete_tenant,
    drop_password,
    get_tenant,
    is_password_ours,
    list_tenants,
    mark_tenant,
    put_tenant,
)

_STEPS: Final = 4
_EVERYBODY: Final = "*"
"""Kafka's name for any user."""


def principal_of(kafka_user: str) -> str:
    """Return the principal of a Kafka user in Kafka's access control lists."""
    return f"User:{kafka_user}"


def no_tenant(name: str) -> NotFound:
    """Return the error for a tenant that does not exist."""
    return NotFound(f"there is no tenant {name[:80]!r}: `infaas tenants list` lists the tenants")


async def create_tenant(pool: Pool, kafka: KafkaSettings, tenant: Tenant, password: str | None = None) -> None:
    """Create a tenant with its topics, and the access and `password` of its Kafka user if it has one.

    Repeated, it adds missing parts, and sets a new password if one is given. A Kafka user that the tenant had before
    loses its access, and its password too unless it is the user of another tenant.

    Raises:
        InvalidRequest: the name is not valid.
        OperatorError: the user has a password that was not set here and a new one is given, or Kafka refuses a request.
        StoreConflict: the tenant is being removed.
    """
    check_name("tenant", tenant.name)
    if tenant.kafka_user and tenant.kafka_user in (_EVERYBODY, kafka.sasl_username):
        raise OperatorError(
            f"the Kafka user {tenant.kafka_user!r} cannot belong to a tenant: it stands for all users, or is the "
            "system's own, whose password would be deleted with the tenant"
        )
    await join_system(pool, kafka)
    before = await get_tenant(pool, tenant.name)
    if before is not None and before.removing:  # or the new parts would outlive the removal
        raise being_removed(tenant.name)
    if password is not None:
        await _claim_password(pool, kafka, tenant.kafka_user)
    await ensure_tenant_topics(kafka, tenant.name, tenant.partitions)
    if tenant.kafka_user:
        await allow(kafka, tenant_acls(tenant.name), principal_of(tenant.kafka_user))
        if password is not None:
            await set_password(kafka, tenant.kafka_user, password)
        if before is not None and before.kafka_user not in ("", tenant.kafka_user):
            await disallow(kafka, tenant_acls(tenant.name), principal_of(before.kafka_user))
            await _forget_password(pool, kafka, before.kafka_user, of=tenant.name)
    await put_tenant(pool, tenant)


async def _claim_password(pool: Pool, kafka: KafkaSettings, user: str) -> None:
    """Note that a user's password is set by us, before it is set, so that an interrupted call may set it again."""
    if not await is_password_ours(pool, user):
        if await has_password(kafka, user):
            raise OperatorError(
                f"the Kafka user {user!r} has a password that INFAAS did not set, and keeps it: leave out --scram and "
                "--password-file, or choose another user"
            )
        await claim_password(pool, user)


async def _forget_password(pool: Pool, kafka: KafkaSettings, user: str, *, of: str) -> None:
    """Delete a password that was set here, unless another tenant has the same user."""
    others = [tenant for tenant in await list_tenants(pool) if tenant.kafka_user == user and tenant.name != of]
    if not others and await is_password_ours(pool, user):
        await forget_password(kafka, user)
        await drop_password(pool, user)


async def remove_tenant(
    pool: Pool, kafka: KafkaSettings, name: str, sink: ProgressSink, *, drain_timeout_s: float, results_grace_s: float
) -> None:
    """Remove a tenant: answer its queries, then delete its topics, access and password.

    Raises:
        NotFound: there is no tenant of this name.
        OperatorError: a service refuses a request or cannot be reached.
    """
    tenant = await get_tenant(pool, name)
    if tenant is None:
        raise no_tenant(name)
    await join_system(pool, kafka)
    sink.step(0, _STEPS, f"{name}: closing its topics, and answering the queries in them")
    await mark_tenant(pool, name)
    try:
        asked = await drain_topics(kafka, ingress_topic(name), drain_timeout_s)
        sink.step(1, _STEPS, f"{name}: results can be read for another {results_grace_s:g} s")
        await asyncio.sleep(results_grace_s)
        sink.step(2, _STEPS, f"{name}: revoking its user's access")
        if tenant.kafka_user:
            await disallow(kafka, tenant_acls(name), principal_of(tenant.kafka_user))
            await _forget_password(pool, kafka, tenant.kafka_user, of=name)
        sink.step(3, _STEPS, f"{name}: deleting topics")
        own = await topic_names(kafka, tenant_prefix(name))
        await delete_topics(kafka, [*asked, *own])
        await until_gone(kafka, [*asked, *own])
    except (KafkaError, OSError, TimeoutError) as error:
        raise OperatorError(f"a request to Kafka failed ({error!r}); run the command again to resume") from error
    await delete_tenant(pool, name)
    sink.step(_STEPS, _STEPS, f"{name}: removed")
