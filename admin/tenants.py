"""Tenants with topics of their own: create, list, show, signing key, remove."""

from typing import Annotated, Final

import msgspec

from admin.api import Empty, RequestContext, endpoint, param
from broker.kafka.access import acl_commands, tenant_acls
from broker.kafka.settings import KafkaSettings
from process.security.signature import tenant_key
from process.signing import SigningSettings
from registry.request import ProgressSink
from registry.tenants import create_tenant, no_tenant, principal_of, remove_tenant
from schemas.access import Role
from schemas.defaults import PARTITIONS
from schemas.errors import InvalidRequest, OperatorError
from schemas.names import check_name
from schemas.rows.audit import AuditVerb
from schemas.rows.tenants import Tenant
from schemas.topics import ingress_topic, offline_of, tenant_prefix, tenant_results_topic
from store.audit import audited, audited_transaction
from store.tenants import get_tenant, list_tenants, renew_key

MOST_PARTITIONS: Final = 64
"""Maximum number of partitions of a new tenant's topics. Topics gain partitions later as the tenant's load grows."""

_Name = Annotated[str, param("Name of a tenant.", metavar="TENANT")]
_Wait = Annotated[float, msgspec.Meta(ge=0, le=300)]


class TenantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to create a tenant."""

    tenant: _Name
    kafka_user: Annotated[
        str,
        msgspec.Meta(max_length=255),
        param("Kafka user with exclusive write access to its topics; default: ACLs are set elsewhere.", metavar="USER"),
    ] = ""
    partitions: Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTITIONS), param("Partitions of its topics.")] = PARTITIONS
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    """New SCRAM-SHA-512 password of that user; null: the password does not change."""

    def __repr__(self) -> str:
        return f"TenantRequest({self.tenant})"  # no log may contain the password


class NamedTenant(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one tenant."""

    tenant: _Name


class TenantEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Tenant with its topics and ACLs in Kafka."""

    tenant: Tenant
    asks_in: list[str]
    """Topics of its queries: the online one, then the offline one."""
    answered_in: str
    """Topic of its results if a query names no reply topic."""
    prefix: str
    """Prefix of the topics and consumer groups that the tenant may create and use freely."""
    acls: list[str]
    """Commands of Kafka's ACL tool that grant its user (`USER` if none is known) exactly these permissions."""


class SigningKeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a tenant's signing key."""

    tenant: str
    replaces: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    """Number of the key to revoke and replace. Null, or not the present number: no key is replaced."""


class ShownSigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """Key with which a tenant signs its queries."""

    tenant: str
    number: int
    key: str

    def __repr__(self) -> str:
        return f"ShownSigningKey({self.tenant}.{self.number})"  # no log may contain the key


class TenantRemoval(msgspec.Struct, frozen=True, kw_only=True):
    """Request to remove a tenant."""

    tenant: _Name
    drain_timeout_s: Annotated[
        _Wait, param("Longest wait, in seconds, until its queries are answered.", "--drain-timeout")
    ] = 120.0
    results_grace_s: Annotated[
        _Wait, param("Seconds to keep its results readable before deletion.", "--results-grace")
    ] = 10.0


_SOMEBODY: Final = "USER"
"""Placeholder for a Kafka user that is not set."""


@endpoint("tenants.create", "PUT", "/v1/tenants/{tenant}", Role.ADMIN, deadline_s=120, grants_access=True)
async def create(context: RequestContext, request: TenantRequest) -> TenantEndpoints:
    """Create a tenant's topics, and permit its Kafka user to use them. Idempotent: adds missing parts.

    Raises:
        InvalidRequest: the name is invalid, or a password is given without a user.
        OperatorError: the tenant is being removed, or Kafka failed.
    """
    name, user, password = check_name("tenant", request.tenant), request.kafka_user, request.password
    if password and not user:
        raise InvalidRequest("a password needs a user (--kafka-user)")
    kafka = context.find_kafka()
    made = Tenant(name=name, partitions=request.partitions, kafka_user=user)
    act = context.act(AuditVerb.CREATE_TENANT, name, kafka_user=user, password=password is not None)
    async with audited(context.pool, act):
        await create_tenant(context.pool, kafka, made, password)
    return _doors(await get_tenant(context.pool, name) or made, kafka)


@endpoint("tenants.list", "GET", "/v1/tenants", Role.ADMIN)
async def list_all(context: RequestContext, _request: Empty) -> list[Tenant]:
    """List tenants with topics of their own."""
    return await list_tenants(context.pool)


@endpoint("tenants.show", "GET", "/v1/tenants/{tenant}", Role.ADMIN)
async def show(context: RequestContext, request: NamedTenant) -> TenantEndpoints:
    """Show a tenant, its topics, and the ACLs that they need.

    Raises:
        NotFound: the tenant does not exist.
    """
    found = await get_tenant(context.pool, request.tenant)
    if found is None:
        raise no_tenant(request.tenant)
    return _doors(found, context.find_kafka())


@endpoint("tenants.signing-key", "POST", "/v1/tenants/{tenant}/signing-key", Role.ADMIN, grants_access=True)
async def signing_key(context: RequestContext, request: SigningKeyRequest) -> ShownSigningKey:
    """Show the key with which a tenant signs its queries, or replace the given one.

    Raises:
        NotFound: the tenant does not exist.
        OperatorError: the secret of the selectors is not configured here.
    """
    secret = SigningSettings().read()
    if secret is None:
        raise OperatorError(
            "set INFAAS_SIGNING_SECRET_FILE or INFAAS_SIGNING_SECRET to the selectors' secret for the process that "
            "executes this: the gateway, or the command line without INFAAS_URL"
        )
    name, replaces = request.tenant, request.replaces
    act = context.act(AuditVerb.SHOW_SIGNING_KEY, name, renew=replaces is not None)
    async with audited_transaction(context.pool, act) as session:
        number = await renew_key(session, name, replaces=replaces)
        if number is None:
            raise no_tenant(name)
    return ShownSigningKey(tenant=name, number=number, key=str(tenant_key(secret, name, number)))


@endpoint("tenants.remove", "DELETE", "/v1/tenants/{tenant}", Role.ADMIN, deadline_s=900)
async def remove(context: RequestContext, request: TenantRemoval) -> NamedTenant:
    """Remove a tenant: answer its queries, then delete its topics, ACLs and password.

    A repeated request continues the removal.

    Raises:
        NotFound: the tenant does not exist.
        OperatorError: a service failed.
    """
    return await remove_with_progress(context, request, _Unseen())


async def remove_with_progress(context: RequestContext, request: TenantRemoval, sink: ProgressSink) -> NamedTenant:
    """Remove a tenant as `remove` does, and report the progress."""
    kafka = context.find_kafka()
    async with audited(context.pool, context.act(AuditVerb.REMOVE_TENANT, request.tenant)):
        await remove_tenant(
            context.pool, kafka, request.tenant, sink,
            drain_timeout_s=request.drain_timeout_s, results_grace_s=request.results_grace_s,
        )  # fmt: skip
    return NamedTenant(tenant=request.tenant)


def _doors(tenant: Tenant, kafka: KafkaSettings) -> TenantEndpoints:
    online = ingress_topic(tenant.name)
    user = principal_of(tenant.kafka_user or _SOMEBODY)
    return TenantEndpoints(
        tenant=tenant,
        asks_in=[online, offline_of(online)],
        answered_in=tenant_results_topic(tenant.name),
        prefix=tenant_prefix(tenant.name),
        acls=acl_commands(tenant_acls(tenant.name), user, kafka.bootstrap),
    )


class _Unseen:
    """Progress sink that discards everything."""

    def step(self, done: int, total: int, text: str) -> None: ...

    def note(self, text: str) -> None: ...


TENANTS: Final = (create, list_all, show, signing_key, remove)
