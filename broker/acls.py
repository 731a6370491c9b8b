"""Kafka's access control lists: who may do what to which topics and groups.

aiokafka's admin client has no way to them; it has the requests.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from shlex import quote
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from broker.client import open_admin
from broker.settings import KafkaSettings
from schemas.errors import OperatorError
from schemas.topics import ingress_topic, offline_of, tenant_prefix

_ANY_HOST: Final = "*"
_ALLOW: Final = 3
_SECURITY_DISABLED: Final = 54


class NoSuchRequest(OperatorError):
    """Error of a Kafka that does not know a request, and never will."""


class Resource(IntEnum):
    """What is guarded, by Kafka's numbers."""

    TOPIC = 2
    GROUP = 3


class Pattern(IntEnum):
    """How a resource is named, by Kafka's numbers."""

    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """What is done to it, by Kafka's numbers. Describing it is part of each."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6


class Acl(NamedTuple):
    """Something that a principal may do."""

    resource: Resource
    pattern: Pattern
    name: str
    operation: Operation


def tenant_acls(tenant: str) -> list[Acl]:
    """All that the principal of a tenant may do: write its ingress topics, and do as it likes with what is its own."""
    online, prefix = ingress_topic(tenant), tenant_prefix(tenant)
    return [
        *(Acl(Resource.TOPIC, Pattern.LITERAL, topic, Operation.WRITE) for topic in (online, offline_of(online))),
        *(Acl(Resource.TOPIC, Pattern.PREFIXED, prefix, operation) for operation in Operation),
        *(Acl(Resource.GROUP, Pattern.PREFIXED, prefix, what) for what in (Operation.READ, Operation.DELETE)),
    ]


def acl_commands(acls: Iterable[Acl], principal: str, bootstrap: str) -> list[str]:
    """Commands of Kafka's own tool that allow the same, for a shell: what a user is called may be anything."""
    return [
        f"kafka-acls.sh --bootstrap-server {quote(bootstrap)} --add --allow-principal {quote(principal)} --operation "
        f"{acl.operation.name.title()} --{acl.resource.name.lower()} {acl.name} "
        f"--resource-pattern-type {acl.pattern.name.lower()}"
        for acl in acls
    ]


async def allow(settings: KafkaSettings, acls: Iterable[Acl], principal: str) -> None:
    """Let a principal do this; again is no error.

    Raises:
        OperatorError: Kafka has no access control, does not let us change it, or cannot be reached.
    """
    await _each(settings, acls, principal, CreateAclsRequest, lambda answer: answer.creation_responses)


async def disallow(settings: KafkaSettings, acls: Iterable[Acl], principal: str) -> None:
    """Let a principal do this no longer; what it may not do anyway is no error.

    Raises:
        OperatorError: Kafka has no access control, does not let us change it, or cannot be reached.
    """
    await _each(settings, acls, principal, DeleteAclsRequest, lambda answer: answer.filter_responses)


async def _each(
    settings: KafkaSettings,
    acls: Iterable[Acl],
    principal: str,
    request: Callable[..., Any],
    outcomes: Callable[[Any], Iterable[tuple[Any, ...]]],
) -> None:
    async with open_admin(settings) as admin:
        for acl in acls:
            sent = request(acl.resource, acl.name, acl.pattern, principal, _ANY_HOST, acl.operation, _ALLOW)
            for code, message, *_ in outcomes(await send_admin(admin, sent)):
                _check(code, message)


def _check(code: int, message: str | None) -> None:
    if code == _SECURITY_DISABLED:
        raise OperatorError(
            "this Kafka has no authorizer, so that everybody may do everything: start it with one (`infaas up --auth`, "
            "elsewhere authorizer.class.name) and run this again, or make tenants without --kafka-user"
        )
    if code:
        raise OperatorError(f"Kafka does not change its access control: {message or for_code(code).description}")


async def send_admin(admin: AIOKafkaAdminClient, request: Any) -> Any:
    """Send a request that aiokafka's admin client has no method for to some broker; returns the answer.

    Raises:
        NoSuchRequest: Kafka does not know it.
        OperatorError: Kafka does not answer.
    """
    client = admin._client  # pyright: ignore[reportPrivateUsage] - there is no other way
    try:
        return await client.send(client.get_random_node(), request)
    except IncompatibleBrokerVersion as error:
        raise NoSuchRequest(f"this Kafka has no {type(request).__name__}") from error
    except (KafkaError, OSError) as error:
        raise OperatorError(f"Kafka does not answer ({error!r}); run it again to go on") from error
