"""Tenants with topics of their own: create, list, show, signing key, remove."""

from typing import Final

from admin.binding import bind
from admin.control import RequestContext
from broker.acls import acl_commands, tenant_acls
from broker.settings import KafkaSettings
from process.signing import SigningSettings
from registry.registration import ProgressSink
from registry.tenants import create_tenant, no_tenant, principal_of, remove_tenant
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.tenants import (
    CREATE_TENANT,
    LIST_TENANTS,
    REMOVE_TENANT,
    SHOW_TENANT,
    SIGNING_KEY,
    NamedTenant,
    ShownSigningKey,
    SigningKeyRequest,
    TenantEndpoints,
    TenantRemoval,
    TenantRequest,
)
from schemas.errors import InvalidRequest, OperatorError
from schemas.names import check_name
from schemas.rows.audit import AuditVerb
from schemas.rows.tenants import Tenant
from schemas.topics import ingress_topic, offline_of, tenant_prefix, tenant_results_topic
from security.signature import tenant_key
from store.audit import audited, audited_transaction
from store.tenants import get_tenant, list_tenants, renew_key

_SOMEBODY: Final = "USER"
"""Placeholder for a Kafka user that is not set."""


async def create(control: RequestContext, request: TenantRequest) -> TenantEndpoints:
    """Create a tenant's topics and the ACLs of its Kafka user; set the user's password if one is given.

    Raises:
        InvalidRequest: the name is invalid, or a password is given without a user.
        OperatorError: the tenant is being removed, or Kafka failed.
    """
    name, user, password = check_name("tenant", request.tenant), request.kafka_user, request.password
    if password and not user:
        raise InvalidRequest("a password needs a user (--kafka-user)")
    kafka = control.find_kafka()
    made = Tenant(name=name, partitions=request.partitions, kafka_user=user)
    act = control.act(AuditVerb.CREATE_TENANT, name, kafka_user=user, password=password is not None)
    async with audited(control.pool, act):
        await create_tenant(control.pool, kafka, made, password)
    return _doors(await get_tenant(control.pool, name) or made, kafka)


async def list_all(control: RequestContext, _request: Empty) -> list[Tenant]:
    """List tenants with topics of their own."""
    return await list_tenants(control.pool)


async def show(control: RequestContext, request: NamedTenant) -> TenantEndpoints:
    """Return a tenant, its topics, and the ACLs that they need.

    Raises:
        NotFound: the tenant does not exist.
    """
    found = await get_tenant(control.pool, request.tenant)
    if found is None:
        raise no_tenant(request.tenant)
    return _doors(found, control.find_kafka())


async def signing_key(control: RequestContext, request: SigningKeyRequest) -> ShownSigningKey:
    """Return the key that a tenant signs its queries with; with `replaces`, create the next key in place of that one.

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
    act = control.act(AuditVerb.SHOW_SIGNING_KEY, name, renew=replaces is not None)
    async with audited_transaction(control.pool, act) as session:
        number = await renew_key(session, name, replaces=replaces)
        if number is None:
            raise no_tenant(name)
    return ShownSigningKey(tenant=name, number=number, key=str(tenant_key(secret, name, number)))


async def remove(control: RequestContext, request: TenantRemoval, sink: ProgressSink | None = None) -> NamedTenant:
    """Remove a tenant: wait for the answers to its queries, then delete its topics, ACLs and password.

    Raises:
        NotFound: the tenant does not exist.
        OperatorError: a service failed.
    """
    kafka = control.find_kafka()
    async with audited(control.pool, control.act(AuditVerb.REMOVE_TENANT, request.tenant)):
        await remove_tenant(
            control.pool, kafka, request.tenant, sink or _Unseen(),
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


BINDINGS: Final = (
    bind(CREATE_TENANT, create),
    bind(LIST_TENANTS, list_all),
    bind(SHOW_TENANT, show),
    bind(SIGNING_KEY, signing_key),
    bind(REMOVE_TENANT, remove),
)
