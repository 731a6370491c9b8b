"""How a dead letter is sent again: where to, with which headers, and what stands in the way. Pure.

* What a worker gave up goes to its task again: the variant may be gone, or be the reason. What came from a tenant's
  ingress, which only such a query's reply topic tells, goes there, or nothing would prove whose it is.
* The query keeps its id, its reply topic and its needs. A deadline in absolute time has passed, so it is left out.
* Where nobody would hear the answer nothing is sent: it would come back as another dead letter.
"""

from collections.abc import Collection
from typing import Final

from broker.letters.letter import CLOUD_EVENT_REPLY_TO, StoredLetter
from schemas import headers as h
from schemas.headers import RawHeaders
from schemas.topics import (
    SHADOWS,
    ingress_topic,
    is_offline,
    is_topic,
    offline_of,
    query_topic,
    results_topic,
    tenant_of,
    tenant_prefix,
    tenant_results_topic,
    variant_of,
)

_LEFT_OUT: Final = frozenset({h.ATTEMPTS, h.DEADLINE_MS, h.SENT_NS, h.LINGER_NS, h.TURNED_AWAY, h.SIGNATURE})


def destination(stored: StoredLetter) -> str:
    """Topic that the letter's record goes to."""
    topic = stored.letter.topic
    if variant_of(topic) is None or not stored.task:
        return topic
    tenant = stored.header(h.TENANT)
    if tenant and reply_topic(stored).startswith(tenant_prefix(tenant)):
        return offline_of(ingress_topic(tenant)) if is_offline(topic) else ingress_topic(tenant)
    return query_topic(stored.task, offline=is_offline(topic))


def reply_topic(stored: StoredLetter) -> str:
    """Topic that the answer goes to; empty if it cannot be told."""
    said = stored.header(h.REPLY_TO) or stored.header(CLOUD_EVENT_REPLY_TO)
    tenant = tenant_of(stored.letter.topic)
    if tenant is not None:
        return said or tenant_results_topic(tenant)
    return said or (results_topic(stored.task) if stored.task else "")


def resent_headers(stored: StoredLetter) -> RawHeaders:
    """Headers of the record that is sent again."""
    kept = [(name, value) for name, value in stored.letter.headers if name not in _LEFT_OUT]
    return [*kept, (h.ATTEMPTS, b"%d" % stored.letter.attempts)]


def obstacle(stored: StoredLetter, topics: Collection[str]) -> str:
    """Why a letter cannot be sent again, given all topics that there are; empty if it can."""
    letter, target, reply = stored.letter, destination(stored), reply_topic(stored)
    if letter.shortened:
        return "it is not the whole record"
    if reply == SHADOWS:
        return "it is a copy, made to compare versions: nobody waits for its answer"
    if not is_topic(target):
        return f"it says to be from {target[:80]!r}, which is no topic"
    if target not in topics:
        return f"topic {target} is gone"
    if reply and reply not in topics:
        return f"nobody would hear the answer: topic {reply[:80]} is gone"
    try:
        "".join(name for name, _ in letter.headers).encode()
    except UnicodeEncodeError:
        return "the name of a header is not UTF-8, which cannot be sent"
    return ""
