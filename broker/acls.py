"""Access control lists of Kafka: operations that a principal may perform on topics and groups."""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

from collections.abc import Iterable
from concurrent.futures import Future
from enum import IntEnum
from shlex import quote
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from broker.librdkafka_admin import RefusedRequest, answered, open_librdkafka_admin
from broker.settings import KafkaSettings
from schemas.errors import OperatorError
from schemas.topics import ingress_topic, offline_of, tenant_prefix

_ANY_HOST: Final = "*"
_SECURITY_DISABLED: Final = 54


class Resource(IntEnum):
    """Kind of resource that an ACL applies to, by Kafka's code."""

    TOPIC = 2
    GROUP = 3


class Pattern(IntEnum):
    """Way in which an ACL names its resource, by Kafka's code."""

    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """Operation that an ACL allows, by Kafka's code. READ, WRITE and DELETE include DESCRIBE."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6


class Acl(NamedTuple):
    """One operation that a principal may perform."""

    resource: Resource
    pattern: Pattern
    name: str
    operation: Operation


def tenant_acls(tenant: str) -> list[Acl]:
    """Return the ACLs of a tenant's principal.

    It may write the tenant's ingress topics, and use all topics and groups whose names begin with the tenant's prefix.
    """
    online, prefix = ingress_topic(tenant), tenant_prefix(tenant)
    return [
        *(Acl(Resource.TOPIC, Pattern.LITERAL, topic, Operation.WRITE) for topic in (online, offline_of(online))),
        *(Acl(Resource.TOPIC, Pattern.PREFIXED, prefix, operation) for operation in Operation),
        *(Acl(Resource.GROUP, Pattern.PREFIXED, prefix, what) for what in (Operation.READ, Operation.DELETE)),
    ]


def acl_commands(acls: Iterable[Acl], principal: str, bootstrap: str) -> list[str]:
    """Return the `kafka-acls.sh` commands that add the ACLs.

    The principal and the address are quoted for the shell, since a principal may contain any character.
    """
    return [
        f"kafka-acls.sh --bootstrap-server {quote(bootstrap)} --add --allow-principal {quote(principal)} --operation "
        f"{acl.operation.name.title()} --{acl.resource.name.lower()} {acl.name} "
        f"--resource-pattern-type {acl.pattern.name.lower()}"
        for acl in acls
    ]


async def allow(settings: KafkaSettings, acls: Iterable[Acl], principal: str) -> None:
    """Add the ACLs for a principal; an ACL that exists already is no error.

    Raises:
        OperatorError: Kafka has no access control, does not let us change it, or cannot be reached.
    """
    bindings = [AclBinding(*_rule(acl, principal)) for acl in acls]
    async with open_librdkafka_admin(settings) as admin:
        await _all_answered(admin.create_acls(bindings))


async def disallow(settings: KafkaSettings, acls: Iterable[Acl], principal: str) -> None:
    """Remove the ACLs of a principal; an ACL that does not exist is no error.

    Raises:
        OperatorError: Kafka has no access control, does not let us change it, or cannot be reached.
    """
    filters = [AclBindingFilter(*_rule(acl, principal)) for acl in acls]
    async with open_librdkafka_admin(settings) as admin:
        await _all_answered(admin.delete_acls(filters))


def _rule(acl: Acl, principal: str) -> tuple[ResourceType, str, ResourcePatternType, str, str, AclOperation, Any]:
    """Return the arguments that `AclBinding` and `AclBindingFilter` have in common."""
    resource, pattern = ResourceType[acl.resource.name], ResourcePatternType[acl.pattern.name]
    return resource, acl.name, pattern, principal, _ANY_HOST, AclOperation[acl.operation.name], AclPermissionType.ALLOW


async def _all_answered(futures: dict[Any, Future[Any]]) -> None:
    try:
        for future in futures.values():
            await answered(future)
    except RefusedRequest as error:
        if error.code == _SECURITY_DISABLED:
            raise OperatorError(
                "this Kafka has no authorizer, so ACLs have no effect: start it with one (`infaas up --auth`, "
                "elsewhere authorizer.class.name) and run the command again, or create tenants without --kafka-user"
            ) from error
        raise OperatorError(f"Kafka did not change its access control: {error.reason}") from error
