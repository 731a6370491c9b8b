"""Records that could not be processed: kept whole, with where they came from and why, and sent again on demand.

A dead letter is the record itself, value, key and headers untouched, plus headers of its own and less that of a reply
stream, which holds a secret. Only the name of a header that is not UTF-8, which no client of Kafka's writes, stands
there in hexadecimal, after `infaas-dead-name-`; such a letter is not replayed. A record within some hundred bytes of
the largest that Kafka takes leaves no room for those: its dead letter holds the beginning, says so, and is not
replayed.

What becomes of them later is in `broker.letters`.
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
"""Header that says how many bytes key and value had, where the dead letter does not hold them all."""
TENANT: Final = "infaas-dead-tenant"
"""Header that names the tenant that the record's signature proved to ask: later it can be verified no more."""
_NAME: Final = "infaas-dead-name-"
_OURS: Final = frozenset({TOPIC, PARTITION, OFFSET, REASON, ATTEMPTS, SHORTENED, TENANT})
_LEFT_OUT: Final = _OURS | {REPLY_STREAM}
"""Names of headers that a dead letter does not keep: a receiver's secret is of no use to whoever reads it later."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be processed, where it came from and why."""

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
    """Whether key, value and headers are but the beginning of the record's."""
    tenant: str = ""
    """The tenant that its signature proved to ask, as the one who gave it up saw; empty: it proved nobody's."""


async def publish_dead_letter(
    producer: RecordSender, record: Record, reason: str, attempts: int = 1, *, keep_bytes: int | None = None,
    tenant: str = "",
) -> asyncio.Future[Ack]:  # fmt: skip
    """Send `record` to the dead letters; once the future is done without an error it is safe to commit the record.

    Args:
        producer: sends the dead letter.
        record: the record as it was read.
        reason: why the record is given up.
        attempts: how often the record was tried.
        keep_bytes: how much is kept of a record that is larger; None: all.
        tenant: whose its signature proves it to be; empty: nobody's.
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
    """Shorten a record: half of `keep_bytes` is for the value, a quarter for the key, one for headers that fit."""
    size, room = len(key or b"") + len(value or b""), keep_bytes // 4
    kept: RawHeaders = [(SHORTENED, b"%d" % size)]
    for name, text in headers:
        if (needed := len(name) + len(text)) <= room:
            room -= needed
            kept.append((name, text))
    return key and key[: keep_bytes // 4], value and value[: keep_bytes // 2], kept


def record_bytes(record: Record) -> int:
    """Size of a record's key, value and headers."""
    return len(record.key or b"") + len(record.value or b"") + sum(len(n) + len(v or b"") for n, v in record.headers)


def parse_letter(record: Record) -> DeadLetter:
    """Read a record of the dead-letter topic.

    Raises:
        ValueError: it is no dead letter of ours.
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
