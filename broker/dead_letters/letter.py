"""Dead letter: a record that could not be processed, kept with origin and reason so that it can be replayed.

A dead letter holds key, value and headers of the record unchanged, plus headers of its own. The header of the reply
stream is left out, since it holds a secret. A header name that is not UTF-8, which no Kafka client writes, is stored in
hexadecimal after `infaas-dead-name-`; such a letter cannot be replayed. A record within some hundred bytes of Kafka's
size limit leaves no room for the added headers. Its dead letter holds only the beginning of the record, is marked as
shortened, and cannot be replayed.

The dead-letter topic is limited in bytes, and its oldest letters are deleted first. Many large refused records of one
topic would displace all other letters. Each topic therefore has a budget (`LetterBudget`); a letter beyond it is
shortened, too.
"""

import asyncio
from typing import Final

import msgspec

from broker.kafka.types import Record, record_bytes
from broker.producing.producer import Ack, Producer
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
HEAD_BYTES: Final = 4096
"""Bytes that a letter keeps beyond the budget; a record that is no larger is always kept whole."""
BURST_BYTES: Final = 32 * 1024 * 1024
"""Size of a full budget: bytes of a topic's records that can be kept whole at once."""
_REFILL_S: Final = 3600.0
"""Seconds in which an empty budget refills."""
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
    producer: Producer, record: Record, reason: str, attempts: int = 1, *, keep_bytes: int | None = None,
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


class LetterBudget:
    """Budgets of bytes for the dead letters of each topic that one process reads; the caller passes the time."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}
        """Bytes left and the time of that count, by topic."""

    def keep_bytes(self, topic: str, size: int, now_s: float) -> int | None:
        """Take a record of `size` bytes from the budget; return how many bytes to keep, or None to keep all."""
        if size <= HEAD_BYTES:
            return None
        left, since_s = self._left.get(topic, (float(BURST_BYTES), now_s))
        left = min(left + (now_s - since_s) * BURST_BYTES / _REFILL_S, BURST_BYTES)
        taken = size <= left
        self._left[topic] = left - size if taken else left, now_s
        return None if taken else HEAD_BYTES

    def give_back(self, topic: str, size: int) -> None:
        """Return the bytes of a letter that was to be kept whole but was not written."""
        if size > HEAD_BYTES and topic in self._left:
            left, since_s = self._left[topic]
            self._left[topic] = min(left + size, BURST_BYTES), since_s
