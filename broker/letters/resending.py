"""How a dead letter is sent again: where to, with which headers, and what stands in the way. Pure.

* What a worker gave up goes to its task again: the variant may be gone, or be the reason. A query that is answered in a
  tenant's own topics was proved to be that tenant's, by its ingress or its key: it goes to the ingress.
* Whose a query was proved to be it stays. Its signature is too old by now, so that it is signed anew, by the system's
  secret, where it goes to a task's topic; without the secret it is not sent, or it would be refused or be nobody's.
  What a selector gave up it says itself whether the signature was right; what a worker gave up a selector had let pass.
  A signature that proved nothing is never replaced: whoever wrote it would have become who he pretends to be.
* The query keeps its id, its reply topic and its needs. A deadline in absolute time has passed, so it is left out.
* Where nobody would hear the answer nothing is sent: it would come back as another dead letter.
"""

from collections.abc import Collection
from typing import Final

from broker.letters.letter import CLOUD_EVENT_REPLY_TO, StoredLetter
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

_UNPROVED: Final = "its signature was not right, or nobody said that it was: sent again it might be believed"
_LEFT_OUT: Final = frozenset(
    {h.ATTEMPTS, h.DEADLINE_MS, h.SENT_NS, h.LINGER_NS, h.TURNED_AWAY, h.TURNED_AWAY_PROOF, h.SIGNATURE}
)


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


def proved_tenant(stored: StoredLetter) -> str:
    """The tenant that the query's signature proved to ask; empty: it proved nobody's."""
    if variant_of(stored.letter.topic) is not None and stored.is_signed:
        return stored.header(h.TENANT)
    return stored.letter.tenant


def tenant_to_sign_for(stored: StoredLetter) -> str:
    """The tenant that has to be proved anew, since where the query goes proves nothing; empty: none."""
    return proved_tenant(stored) if tenant_of(destination(stored)) is None else ""


def resent_headers(stored: StoredLetter) -> RawHeaders:
    """Headers of the record that is sent again, but for a signature."""
    kept = [(name, value) for name, value in stored.letter.headers if name not in _LEFT_OUT]
    tenant = tenant_to_sign_for(stored)
    if tenant:
        kept = [*(pair for pair in kept if pair[0] != h.TENANT), (h.TENANT, tenant.encode())]
    return [*kept, (h.ATTEMPTS, b"%d" % stored.letter.attempts)]


def headers_to_sign(stored: StoredLetter) -> RawHeaders:
    """What a signature of the record that is sent again covers of its headers: those that its reader takes out of it.

    Raises:
        InvalidRequest: it says it is a CloudEvent, and is none.
        UnicodeError: a header is not UTF-8.
    """
    headers = resent_headers(stored)
    event = unwrap(as_text(headers), stored.letter.value or b"")
    return headers if event is None else [(name, text.encode()) for name, text in event[0].items()]


def obstacle(stored: StoredLetter, topics: Collection[str], *, signs: bool = False) -> str:
    """Why a letter cannot be sent again, given all topics that there are; empty if it can.

    `signs` is whether there is a secret to sign by.
    """
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
    if stored.is_signed and not proved_tenant(stored) and variant_of(letter.topic) is None:
        return _UNPROVED
    if not signs and (tenant := tenant_to_sign_for(stored)):
        return (
            f"a signature proved it to be of tenant {tenant}, and it can be signed anew only where "
            "INFAAS_SIGNING_SECRET_FILE is set to what the selectors have"
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
