"""Replay of a dead letter: its destination, its headers, and obstacles. Pure.

* A query that a worker gave up goes to its task's topic again: the variant may be gone, or be the reason. A query that
  is answered in a tenant's own topics was proved to be of that tenant, by its ingress topic or its key. It goes to the
  ingress topic.
* The query keeps the tenant that was proved. Its signature has expired, so it is signed again by the system's secret if
  it goes to a task's topic. Without the secret it is not sent: it would be refused, or have no tenant. If a selector
  gave up the query, the letter says whether the signature was valid. If a worker did, a selector had accepted the
  signature. A signature that proved nothing is never replaced: its author would become the tenant that he only pretends
  to be.
* The query keeps its id, its reply topic and its needs. An absolute deadline has passed, so it is left out.
* A query whose answer nobody would receive is not sent: it would only become another dead letter.
"""

from collections.abc import Collection
from typing import Final

from broker.dead_letters.stored_letter import CLOUD_EVENT_REPLY_TO, StoredLetter
from schemas import headers as h
from schemas.cloudevents import unwrap
from schemas.errors import InvalidRequest
from schemas.headers import RawHeaders, as_text
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

_UNPROVED: Final = "its signature was not verified: a replay could give it a false tenant"
_LEFT_OUT: Final = frozenset(
    {h.ATTEMPTS, h.DEADLINE_MS, h.SENT_NS, h.LINGER_NS, h.REJECTED_UPSTREAM, h.REJECTED_UPSTREAM_PROOF, h.SIGNATURE}
)


def destination(stored: StoredLetter) -> str:
    """Return the topic to which the letter's record is sent."""
    topic = stored.letter.topic
    if variant_of(topic) is None or not stored.task:
        return topic
    tenant = stored.header(h.TENANT)
    if tenant and reply_topic(stored).startswith(tenant_prefix(tenant)):
        return offline_of(ingress_topic(tenant)) if is_offline(topic) else ingress_topic(tenant)
    return query_topic(stored.task, offline=is_offline(topic))


def reply_topic(stored: StoredLetter) -> str:
    """Return the topic of the answer; empty if it is not known."""
    said = stored.header(h.REPLY_TO) or stored.header(CLOUD_EVENT_REPLY_TO)
    tenant = tenant_of(stored.letter.topic)
    if tenant is not None:
        return said or tenant_results_topic(tenant)
    return said or (results_topic(stored.task) if stored.task else "")


def proved_tenant(stored: StoredLetter) -> str:
    """Return the tenant that the query's signature proved; empty if none."""
    if variant_of(stored.letter.topic) is not None and stored.is_signed:
        return stored.header(h.TENANT)
    return stored.letter.tenant


def tenant_to_sign_for(stored: StoredLetter) -> str:
    """Return the tenant to sign for, since the destination proves no tenant; empty if there is none."""
    return proved_tenant(stored) if tenant_of(destination(stored)) is None else ""


def resent_headers(stored: StoredLetter) -> RawHeaders:
    """Return the headers of the record to send, without a signature."""
    kept = [(name, value) for name, value in stored.letter.headers if name not in _LEFT_OUT]
    tenant = tenant_to_sign_for(stored)
    if tenant:
        kept = [*(pair for pair in kept if pair[0] != h.TENANT), (h.TENANT, tenant.encode())]
    return [*kept, (h.ATTEMPTS, b"%d" % stored.letter.attempts)]


def headers_to_sign(stored: StoredLetter) -> RawHeaders:
    """Return the headers that the signature covers: the ones that the reader of the record will decode.

    Raises:
        InvalidRequest: the record claims to be a CloudEvent, and is none.
        UnicodeError: a header is not UTF-8.
    """
    headers = resent_headers(stored)
    event = unwrap(as_text(headers), stored.letter.value or b"")
    return headers if event is None else [(name, text.encode()) for name, text in event[0].items()]


def obstacle(stored: StoredLetter, topics: Collection[str], *, signs: bool = False) -> str:
    """Return why a letter cannot be replayed, given all existing topics; empty if it can.

    `signs` is true if there is a secret to sign with.
    """
    letter, target, reply = stored.letter, destination(stored), reply_topic(stored)
    if letter.shortened:
        return "the letter was shortened"
    if reply == SHADOWS:
        return "it is a copy for the comparison of versions: no client waits for its answer"
    if not is_topic(target):
        return f"its source is {target[:80]!r}, which is not a valid topic name"
    if target not in topics:
        return f"topic {target} does not exist"
    if reply and reply not in topics:
        return f"its reply topic {reply[:80]} does not exist"
    if stored.is_signed and not proved_tenant(stored) and variant_of(letter.topic) is None:
        return _UNPROVED
    if not signs and (tenant := tenant_to_sign_for(stored)):
        return (
            f"it was signed by tenant {tenant}, and it can be signed again only where INFAAS_SIGNING_SECRET_FILE is "
            "set to the selectors' secret"
        )
    try:
        "".join(name for name, _ in letter.headers).encode()
        if tenant_to_sign_for(stored):
            headers_to_sign(stored)
    except UnicodeError:
        return "a header is not UTF-8, which cannot be sent"
    except InvalidRequest as error:
        return str(error)
    return ""
