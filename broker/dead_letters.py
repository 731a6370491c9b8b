"""Dead letters: records that could not be processed, kept with origin and reason so that they can be replayed.

A dead letter holds key, value and headers of the record unchanged, plus headers of its own. The header of the reply
stream is left out, since it holds a secret. A header name that is not UTF-8, which no Kafka client writes, is stored in
hexadecimal after `infaas-dead-name-`; such a letter cannot be replayed. A record within some hundred bytes of Kafka's
size limit leaves no room for the added headers. Its dead letter holds only the beginning of the record, is marked as
shortened, and cannot be replayed.

`broker.letters` lists, replays and drops dead letters.
"""

import asyncio
from typing import Final

import msgspec

from broker.kafka_types import Record
from broker.producer import Ack, RecordSender
from schemas.headers import ATTEMPTS, REPLY_STREAM, RawHeaders, as_text
from schemas.topics import DEAD_LETTERS

TOPIC: Final = "infaas-dead-topic"
PARTITION: Final = "infaas-dead-partition"
OFFSET: Final = "infaas-dead-offset"
REASON: Final = "infaas-dead-reason"
SHORTENED: Final = "infaas-dead-shortened"
"""Header with the number of bytes of key and value, if the dead letter does not hold all of them."""
TENANT: Final = "infaas-dead-tenant"
"""Header with the tenant that the record's signature proved: the signature expires and cannot be verified later."""
_NAME: Final = "infaas-dead-name-"
_OURS: Final = frozenset({TOPIC, PARTITION, OFFSET, REASON, ATTEMPTS, SHORTENED, TENANT})
_LEFT_OUT: Final = _OURS | {REPLY_STREAM}
"""Names of headers that a dead letter does not keep. A receiver's secret is of no use to later readers."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Record that could not be processed, with its origin and the reason."""

    topic: str
    partition: int
    offset: int
    reason: str
    attempts: int
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    """Headers of the original record."""
    shortened: bool
    """True if key, value and headers hold only the beginning of the record's."""
    tenant: str = ""
    """Tenant that the record's signature proved, as the process that gave up the record determined; empty if none."""


async def publish_dead_letter(
    producer: RecordSender, record: Record, reason: str, attempts: int = 1, *, keep_bytes: int | None = None,
    tenant: str = "",
) -> asyncio.Future[Ack]:  # fmt: skip
    """Send a dead letter for `record`. Once the future is done without an error, the record may be committed.

    Args:
        producer: sends the dead letter.
        record: the record as it was read.
        reason: why the record is given up.
        attempts: number of attempts to process the record.
        keep_bytes: number of bytes to keep of a larger record; None keeps all.
        tenant: tenant that the record's signature proves; empty if none.
    """
    headers: RawHeaders = [(_written(name), value or b"") for name, value in record.headers if name not in _LEFT_OUT]
    key, value = record.key, record.value
    if keep_bytes is not None and record_bytes(record) > keep_bytes:
        key, value, headers = shortened(key, value, headers, keep_bytes)
    headers += [
        (TOPIC, record.topic.encode()),
        (PARTITION, b"%d" % record.partition),
        (OFFSET, b"%d" % record.offset),
        (REASON, reason[:1000].encode(errors="replace")),
        (ATTEMPTS, b"%d" % attempts),
    ]
    if tenant:
        headers.append((TENANT, tenant.encode()))
    return await producer.send(DEAD_LETTERS, value, key=key, headers=headers)


def _written(name: str) -> str:
    raw = name.encode(errors="surrogateescape")
    return _NAME + raw.hex() if name.startswith(_NAME) or raw.decode(errors="replace") != name else name


def _original(name: str) -> str:
    return bytes.fromhex(name[len(_NAME) :]).decode(errors="surrogateescape") if name.startswith(_NAME) else name


def shortened(
    key: bytes | None, value: bytes | None, headers: RawHeaders, keep_bytes: int
) -> tuple[bytes | None, bytes | None, RawHeaders]:
    """Shorten a record to `keep_bytes`: half for the value, a quarter for the key, a quarter for headers that fit."""
    size, room = len(key or b"") + len(value or b""), keep_bytes // 4
    kept: RawHeaders = [(SHORTENED, b"%d" % size)]
    for name, text in headers:
        if (needed := len(name) + len(text)) <= room:
            room -= needed
            kept.append((name, text))
    return key and key[: keep_bytes // 4], value and value[: keep_bytes // 2], kept


def record_bytes(record: Record) -> int:
    """Return the size of a record's key, value and headers, in bytes."""
    return len(record.key or b"") + len(record.value or b"") + sum(len(n) + len(v or b"") for n, v in record.headers)


def parse_letter(record: Record) -> DeadLetter:
    """Parse a record of the dead-letter topic.

    Raises:
        ValueError: the record is not a dead letter of this system.
    """
    try:
        ours = as_text((name, value) for name, value in record.headers if name in _OURS)
        return DeadLetter(
            topic=ours[TOPIC],
            partition=int(ours[PARTITION]),
            offset=int(ours[OFFSET]),
            reason=ours[REASON],
            attempts=int(ours[ATTEMPTS]),
            key=record.key,
            value=record.value,
            headers=[(_original(name), value) for name, value in record.headers if name not in _OURS],
            shortened=SHORTENED in ours,
            tenant=ours.get(TENANT, ""),
        )
    except KeyError as error:
        raise ValueError(f"dead letter {record.offset} lacks the header {error}") from error
