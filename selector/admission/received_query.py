"""Parses records into queries, or into the minimum that is needed to answer an unreadable one; writes error results.

The tenant of a query follows from its topic if that is a tenant's ingress topic, to which only its principal may write.
Elsewhere it follows from a signature, or else from a header, whose weight a setting defines (`TenantHeaders`). A tenant
that is proved, by topic or key, is answered in its own topics only, because results are written with the system's
permissions and not with the tenant's. Parts of the system sign with a key of their own, for their own reply topics.

Hot path: `QueryReader.read` runs once per query.
"""

from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from broker.delivery.outbox import Message
from broker.kafka.types import Record
from schemas import headers as h
from schemas.cloudevents import SPEC_VERSION, unwrap, whom_to_tell
from schemas.errors import Forbidden, InvalidRequest, QueryError
from schemas.headers import RawHeaders, as_text
from schemas.names import is_name
from schemas.query import MAX_ID, Mode, Query, most_inputs, parse_query
from schemas.query_names import check_headers
from schemas.result import error_value
from schemas.topics import (
    LANES,
    is_reply_topic,
    may_reply_to,
    results_topic,
    task_of,
    tenant_of,
    tenant_prefix,
    tenant_results_topic,
)
from selector.admission.signatures import Proof, Replayed, Verifier

if TYPE_CHECKING:
    from schemas.signature import TensorSpec


_NO_HEADERS: Final[RawHeaders] = []
_EVENT: Final = "cloudevents"
_NOT_OF_TENANT: Final = frozenset({h.TENANT, h.REPLY_STREAM, h.SIGNATURE})
"""Headers that are ignored in a tenant's own topic."""


class TenantHeaders(StrEnum):
    """Treatment of a tenant's name in a header without proof."""

    BELIEVED = "believed"
    """The query belongs to that tenant."""
    IGNORED = "ignored"
    """The query belongs to no tenant."""
    REFUSED = "refused"
    """The query is answered with `forbidden`."""


class ReceivedQuery(msgspec.Struct, frozen=True, gc=False):
    """A query as received, unwrapped if it was in a CloudEvent."""

    query: Query
    fields: dict[str, str]
    headers: RawHeaders
    value: bytes | None
    record: Record
    """The record that held it."""
    attempts: int
    """Number of this attempt to dispatch it; the first is 1."""


class _Received(NamedTuple):
    """Content of a record, with the proof of its tenant, if any."""

    task: str
    proof: Proof
    fields: dict[str, str]
    headers: RawHeaders
    value: bytes | None


class _ForeignReplyTopic(Forbidden):
    """A tenant's query names a reply topic of others."""

    def __init__(self, tenant: str, topic: str) -> None:
        super().__init__(
            f"header {h.REPLY_TO} names {topic[:80]!r}: tenant {tenant} is answered in topics whose names "
            f"begin with {tenant_prefix(tenant)}, by default {tenant_results_topic(tenant)}"
        )
        self.tenant = tenant


_UNPROVED: Final = Proof(None, by_system=False)


class QueryReader:
    """Reader of the records of task topics and tenants' ingress topics."""

    def __init__(
        self, tenant_headers: TenantHeaders = TenantHeaders.BELIEVED, verifier: Verifier | None = None
    ) -> None:
        self.verifier = verifier or Verifier()
        self.inputs: Mapping[str, tuple[TensorSpec, ...]] = {}
        """Input specifications by task, which bound the number of inputs that a record can hold."""
        self._tenant_headers = tenant_headers

    def read(
        self, record: Record, offset_ms: float, digest: str | None = None, *, offline: bool = False, attempts: int = 1
    ) -> ReceivedQuery:
        """Read the query in a record.

        Args:
            record: record of a topic of queries.
            offset_ms: the broker's clock minus the clock that the query's times are converted to.
            digest: SHA-256 of the value, if it is known already.
            offline: set the mode to offline, because the record is of an offline topic.
            attempts: number of this attempt to dispatch it.

        Raises:
            InvalidRequest: it cannot be read; the message says why.
            Forbidden: its sender lacks a permission.
            Replayed: it is signed and was seen before.
        """
        task, proof, fields, headers, value = self._received(record, digest)
        if offline and fields.get(h.MODE) in (None, "", Mode.ONLINE):
            fields[h.MODE] = Mode.OFFLINE.value
            headers = [*(pair for pair in headers if pair[0] != h.MODE), (h.MODE, Mode.OFFLINE.value.encode())]
        check_headers(fields)
        query = parse_query(task, fields, record.timestamp, offset_ms, owner=proof.tenant, size=len(value or b""))
        if query.batch > 1:
            self._check_batch(query, fields, value)
        if h.REJECTED_UPSTREAM in fields and tenant_of(record.topic) is None:
            rejected = self.verifier.rejected_upstream(record, query, fields)
            query = msgspec.structs.replace(query, rejected_upstream=rejected)
        return ReceivedQuery(query, fields, headers, value, record, attempts)

    def unreadable_reply(self, record: Record, error: QueryError) -> Message | None:
        """Return an error result for an unreadable record; None if it names no permitted reply topic.

        Without an id the result gets the record's position, which its producer knows, as id: `topic-3-1042`.
        """
        fields = {name: value.decode(errors="replace") if value else "" for name, value in record.headers}
        query_id, reply_to = whom_to_tell(fields, record.value or b"")
        topic = self._error_topic(record, fields, reply_to, error)
        if not topic:
            return None
        if not 0 < len(query_id) <= MAX_ID:
            query_id = f"{record.topic}-{record.partition}-{record.offset}"
        if tenant_of(record.topic) is not None:
            fields.pop(h.REPLY_STREAM, None)
        return error_result(topic, query_id, error, fields)

    def proved_tenant(self, record: Record) -> str:
        """Return the tenant that a record's signature proves; empty without proof."""
        return self._proof_of(record).tenant or ""

    def _proof_of(self, record: Record) -> Proof:
        """Return the proof in a record's signature; an empty proof if it is invalid."""
        if any(name == h.SIGNATURE for name, _ in record.headers):
            with suppress(InvalidRequest, Forbidden, Replayed):
                return self._received(record, None).proof
        return _UNPROVED

    def _check_batch(self, query: Query, fields: Mapping[str, str], value: bytes | None) -> None:
        """Check that a record is large enough for the number of inputs that its header claims."""
        specs, size = self.inputs.get(query.task), len(value or b"")
        if specs is not None and query.batch > (most := most_inputs(specs, fields, size)):
            raise InvalidRequest(
                f"header {h.BATCH} declares {query.batch} inputs, but {size} bytes hold at most {most}"
            )

    def _received(self, record: Record, digest: str | None) -> _Received:
        fields, headers, value = _unwrapped(record)
        tenant = tenant_of(record.topic)
        if tenant is not None:
            headers = _as_of_tenant(tenant, fields, headers)
            return _Received(_named_task(fields), Proof(tenant, by_system=False), fields, headers, value)
        task = _named_task(fields) if record.topic == LANES else task_of(record.topic)
        proof = _UNPROVED
        if h.SIGNATURE in fields:
            proof = self.verifier.verify(record, task, fields, digest)
            headers = _as_signed(proof, fields, headers)
        elif h.TENANT in fields and self._tenant_headers is not TenantHeaders.BELIEVED:
            headers = self._unproved(fields, headers)
        return _Received(task, proof, fields, headers, value)

    def _unproved(self, fields: dict[str, str], headers: RawHeaders) -> RawHeaders:
        """Return the headers of a query whose tenant is unproved, by the setting `tenant_headers`."""
        if self._tenant_headers is TenantHeaders.REFUSED:
            raise Forbidden(
                f"header {h.TENANT} names a tenant without proof: send to the tenant's own topic, or sign the query"
            )
        del fields[h.TENANT]
        return [pair for pair in headers if pair[0] != h.TENANT]

    def _error_topic(self, record: Record, fields: dict[str, str], reply_to: str, error: QueryError) -> str:
        """Return the topic for an error result of an unreadable record; empty if there is none."""
        if isinstance(error, _ForeignReplyTopic):
            return tenant_results_topic(error.tenant)
        tenant = tenant_of(record.topic)
        # A forbidden record proves nothing, so its signature is not verified again.
        proof = Proof(tenant, by_system=False) if tenant or isinstance(error, Forbidden) else self._proof_of(record)
        owner = proof.tenant
        if owner is not None and not proof.by_system:
            own = reply_to.startswith(tenant_prefix(owner)) and may_reply_to(reply_to, owner)
            return reply_to if own else tenant_results_topic(owner)
        reply_to = reply_to or results_topic(task_of(record.topic))
        # A private reply topic matches results by correlation, so an error about an invalid key may go there.
        allowed = may_reply_to(reply_to, owner) or (isinstance(error, Forbidden) and is_reply_topic(reply_to))
        return reply_to if allowed else ""


def _as_signed(proof: Proof, fields: dict[str, str], headers: RawHeaders) -> RawHeaders:
    """Return the headers of a signed query, with the tenant and the reply topic added where they are absent."""
    tenant = proof.tenant
    if tenant is None:
        return headers
    added = {} if h.TENANT in fields else {h.TENANT: tenant}
    if not proof.by_system and (topic := _own_reply_topic(tenant, fields)) != fields.get(h.REPLY_TO):
        added[h.REPLY_TO] = topic
    fields |= added
    return [*headers, *((name, text.encode()) for name, text in added.items())]


def _as_of_tenant(tenant: str, fields: dict[str, str], headers: RawHeaders) -> RawHeaders:
    """Return the headers of a query from a tenant's ingress topic; its topic names the tenant, headers do not.

    It is answered only in the tenant's own topics, never over a connection to an address that it names.
    """
    fields[h.REPLY_TO] = _own_reply_topic(tenant, fields)
    for name in _NOT_OF_TENANT:
        fields.pop(name, None)
    fields[h.TENANT] = tenant
    kept = [pair for pair in headers if pair[0] not in _NOT_OF_TENANT]
    kept.append((h.TENANT, tenant.encode()))
    return kept


def _own_reply_topic(tenant: str, fields: dict[str, str]) -> str:
    reply_to = fields.get(h.REPLY_TO) or tenant_results_topic(tenant)
    if not reply_to.startswith(tenant_prefix(tenant)):
        raise _ForeignReplyTopic(tenant, reply_to)
    return reply_to


def _named_task(fields: dict[str, str]) -> str:
    task = fields.get(h.TASK, "")
    if not is_name(task):
        raise InvalidRequest(f"header {h.TASK} must hold the name of a task, not {task[:80]!r}")
    return task


def error_result(
    topic: str, query_id: str, error: QueryError, fields: Mapping[str, str], more: RawHeaders = _NO_HEADERS
) -> Message:
    """Return the record of an error result; `fields` are the query's headers, `more` are further ones of the result."""
    headers = [(h.ID, query_id.encode()), (h.STATUS, error.code.encode()), (h.CONTENT_TYPE, b"application/json")]
    if error.reason is not None:
        headers.append((h.REASON, error.reason.encode()))
    if error.retry_after_s is not None:
        headers.append((h.RETRY_AFTER_MS, b"%d" % ceil(error.retry_after_s * 1e3)))
    headers += ((name, fields[name].encode()) for name in h.RETURNED if name in fields)
    return Message(
        topic,
        error_value(str(error), error.reason),
        [*headers, *more],
        query_id.encode(),
        status=error.code.value,
        stream=fields.get(h.REPLY_STREAM, ""),
    )


def _unwrapped(record: Record) -> tuple[dict[str, str], RawHeaders, bytes | None]:
    try:
        fields = as_text(record.headers)
    except UnicodeError:
        raise InvalidRequest("the name or the value of a header is not UTF-8") from None
    content_type = fields.get(h.CONTENT_TYPE)
    if SPEC_VERSION not in fields and not (content_type and _EVENT in content_type.lower()):
        return fields, record.headers, record.value  # pyright: ignore[reportReturnType] - a tuple of pairs suffices
    event = unwrap(fields, record.value or b"")
    if event is None:
        raise InvalidRequest("the record is marked as a CloudEvent, but is not one")
    inner, data = event
    return inner, [(name, text.encode()) for name, text in inner.items()], data
