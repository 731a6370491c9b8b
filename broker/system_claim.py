"""Owner of a namespace in Kafka: the first claim in the topic `<namespace>.system`.

If two systems start at the same time, both write a claim. The claim that comes first in the log of the topic's only
partition is valid, for all readers. A later claim is valid only if it names the owner that it replaces, so of two
claims that replace the same owner the first one is valid. The topic keeps its records for ever.
"""

from collections.abc import Iterable
from contextlib import aclosing, suppress
from typing import Final

import msgspec

from broker.fetch.tail import Tail
from broker.kafka.offsets import START
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics, partitions_of
from broker.kafka.types import KafkaError
from broker.producing.producer import Producer
from schemas.errors import OperatorError
from schemas.topics import SYSTEM

_CLIENT: Final = "infaas-system"


class SystemClaim(msgspec.Struct, frozen=True, kw_only=True):
    """Record by which a system claims the namespace."""

    system: str
    """Id of the system that claims."""
    replaces: str = ""
    """Id of the owner that is replaced; empty if there is none."""
    by: str = ""
    """Host that wrote the claim, for human readers."""


_decoder: Final = msgspec.json.Decoder(SystemClaim)


def owner_of(claims: Iterable[SystemClaim]) -> SystemClaim | None:
    """Return the valid claim among all claims in the order of the log; None if there is none."""
    owner: SystemClaim | None = None
    for claim in claims:
        if claim.replaces == ("" if owner is None else owner.system):
            owner = claim
    return owner


async def claim_namespace(settings: KafkaSettings, system: str, by: str, *, take_over: bool = False) -> SystemClaim:
    """Claim the namespace for a system, unless another system owns it; return the valid claim.

    `take_over` replaces an owner that is another system.

    Raises:
        OperatorError: Kafka cannot be reached, or does not let this user read or write the topic.
    """
    try:
        if not await partitions_of(settings, [SYSTEM]):
            await ensure_topics(settings, [TopicSpec(SYSTEM)])
        owner = await _read_owner(settings)
        if owner is not None and (owner.system == system or not take_over):
            return owner
        claim = SystemClaim(system=system, replaces="" if owner is None else owner.system, by=by)
        async with Producer(settings, _CLIENT) as producer:
            await producer.send_and_wait(SYSTEM, msgspec.json.encode(claim))
        return await _read_owner(settings) or claim
    except (KafkaError, TimeoutError) as error:
        raise OperatorError(
            f"cannot read the system in the topic {SYSTEM} of Kafka at {settings.bootstrap} ({error!r}): may this user "
            "read and write it?"
        ) from error


async def _read_owner(settings: KafkaSettings) -> SystemClaim | None:
    claims: list[SystemClaim] = []
    async with Tail(settings, _CLIENT, [SYSTEM], since_ms=START) as tail, aclosing(tail.past()) as records:
        async for record in records:
            with suppress(msgspec.MsgspecError):  # other records in the topic are no claims
                claims.append(_decoder.decode(record.value or b""))
    return owner_of(claims)
