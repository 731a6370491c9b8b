"""Access to Kafka for other principals: access control lists, and SCRAM passwords of users (KIP-554).

librdkafka salts passwords in this process, so Kafka never receives a password.

All functions raise `OperatorError` if Kafka has no access control, does not let us change it, or cannot be reached.
"""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

from collections.abc import Iterable
from concurrent.futures import Future
from shlex import quote
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from broker.kafka.admin import RefusedRequest, UnsupportedRequest, answered, open_librdkafka_admin
from broker.kafka.settings import KafkaSettings
from schemas.errors import OperatorError
from schemas.topics import ingress_topic, offline_of, tenant_prefix

_ANY_HOST: Final = "*"
_SECURITY_DISABLED: Final = 54
_MECHANISM: Final = ScramMechanism.SCRAM_SHA_512
_ITERATIONS: Final = 8192
_NOT_THERE: Final = 91


class Acl(NamedTuple):
    """One operation that a principal may perform."""

    resource: ResourceType
    pattern: ResourcePatternType
    name: str
    operation: AclOperation
    """READ, WRITE and DELETE include DESCRIBE."""


def tenant_acls(tenant: str) -> list[Acl]:
    """Return the ACLs of a tenant's principal.

    It may write the tenant's ingress topics, and use all topics and groups whose names begin with the tenant's prefix.
    """
    online, prefix = ingress_topic(tenant), tenant_prefix(tenant)
    topic, group, op = ResourceType.TOPIC, ResourceType.GROUP, AclOperation
    literal, prefixed = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    return [
        *(Acl(topic, literal, name, op.WRITE) for name in (online, offline_of(online))),
        *(Acl(topic, prefixed, prefix, operation) for operation in (op.READ, op.WRITE, op.CREATE, op.DELETE)),
        *(Acl(group, prefixed, prefix, operation) for operation in (op.READ, op.DELETE)),
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
    """Add the ACLs for a principal; an ACL that exists already is no error."""
    bindings = [AclBinding(*_rule(acl, principal)) for acl in acls]
    async with open_librdkafka_admin(settings) as admin:
        await _all_answered(admin.create_acls(bindings))


async def disallow(settings: KafkaSettings, acls: Iterable[Acl], principal: str) -> None:
    """Remove the ACLs of a principal; an ACL that does not exist is no error."""
    filters = [AclBindingFilter(*_rule(acl, principal)) for acl in acls]
    async with open_librdkafka_admin(settings) as admin:
        await _all_answered(admin.delete_acls(filters))


def _rule(acl: Acl, principal: str) -> tuple[Any, ...]:
    """Return the arguments that `AclBinding` and `AclBindingFilter` have in common."""
    return acl.resource, acl.name, acl.pattern, principal, _ANY_HOST, acl.operation, AclPermissionType.ALLOW


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


async def has_password(settings: KafkaSettings, user: str) -> bool:
    """Return true if a user has SCRAM credentials, also if others have set them.

    False, too, if Kafka does not store SCRAM credentials.
    """
    async with open_librdkafka_admin(settings) as admin:
        futures = admin.describe_user_scram_credentials([user])
        assert isinstance(futures, dict), "of users that are named there is a future each"
        try:
            return bool((await answered(futures[user])).scram_credential_infos)
        except UnsupportedRequest:
            return False
        except RefusedRequest as error:
            if error.code == _NOT_THERE:
                return False
            raise OperatorError(f"cannot read SCRAM credentials: {error.reason}") from error


async def set_password(settings: KafkaSettings, user: str, password: str) -> None:
    """Set the SCRAM-SHA-512 password of a user, in place of any earlier one; an error if Kafka stores none."""
    info = ScramCredentialInfo(_MECHANISM, _ITERATIONS)
    try:
        await _alter(settings, UserScramCredentialUpsertion(user, info, password.encode()))
    except UnsupportedRequest as error:
        raise OperatorError("this Kafka stores no SCRAM credentials: set passwords outside of INFAAS") from error


async def forget_password(settings: KafkaSettings, user: str) -> None:
    """Delete the SCRAM-SHA-512 password of a user.

    It is no error if the user has none, or if Kafka stores no SCRAM credentials.
    """
    try:
        await _alter(settings, UserScramCredentialDeletion(user, _MECHANISM))
    except UnsupportedRequest:
        return


async def _alter(settings: KafkaSettings, alteration: UserScramCredentialAlteration) -> None:
    async with open_librdkafka_admin(settings) as admin:
        try:
            await answered(admin.alter_user_scram_credentials([alteration])[alteration.user])
        except RefusedRequest as error:
            if error.code != _NOT_THERE:
                raise OperatorError(f"Kafka did not change the credentials: {error.reason}") from error
