"""What a selector reads from a record: the query, or what little is needed to answer that it cannot be read.

Whose a query is, the ingress topic of a tenant says, which its principal alone may write; elsewhere a signature does,
or else a header, and a setting says what that counts for. A tenant that proves who it is, by its topic or its key, is
answered in its own topics only: results are written with the system's rights, not with the tenant's. Parts of the
system sign by a key of their own, for their own reply topics.

Hot: `QueryReader.read` runs once a query.
"""

from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from broker.kafka_types import Record
from broker.outbox import Message
from schemas import headers as h
from schemas.cloudevents import SPEC_VERSION, unwrap, whom_to_tell
from schemas.errors import Forbidden, InvalidRequest, QueryError
from schemas.headers import RawHeaders, as_text
from schemas.names import is_name
from schemas.needs import Mode
from schemas.query import MAX_ID, Query, parse_query
from schemas.request_size import most_inputs
from schemas.result import error_value
from schemas.spelling import check_headers
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
from selector.forward import failed
from selector.proof import Proof, Replayed, Verifier

if TYPE_CHECKING:
    from schemas.rows.tensor_spec import TensorSpec

_EVENT: Final = "cloudevents"
_NOT_OF_TENANT: Final = frozenset({h.TENANT, h.REPLY_STREAM, h.SIGNATURE})
"""Names of headers that count for nothing in a tenant's own topic."""


class TenantHeaders(StrEnum):
    """What the name of a tenant counts for that a header says and nothing proves."""

    BELIEVED = "believed"
    """The query is that tenant's."""
    IGNORED = "ignored"
    """The query is nobody's."""
    REFUSED = "refused"
    """The query is answered with `forbidden`."""


class ReceivedQuery(NamedTuple):
    """A query as it came in, out of its CloudEvent if it was in one."""

    query: Query
    fields: dict[str, str]
    headers: RawHeaders
    value: bytes | None


class _Received(NamedTuple):
    """What a record holds, and whose it is proved to be, if anybody's."""

    task: str
    proof: Proof
    fields: dict[str, str]
    headers: RawHeaders
    value: bytes | None


class _ForeignReplyTopic(Forbidden):
    """Error of a query of a tenant that names a reply topic which is not the tenant's."""

    def __init__(self, tenant: str, topic: str) -> None:
        super().__init__(
            f"header {h.REPLY_TO} names {topic[:80]!r}: tenant {tenant} is answered in topics whose names "
            f"begin with {tenant_prefix(tenant)}, by default {tenant_results_topic(tenant)}"
        )
        self.tenant = tenant


_UNPROVED: Final = Proof(None, by_system=False)


class QueryReader:
    """Reader of the records of task topics and of tenants' ingress topics."""

    def __init__(
        self, tenant_headers: TenantHeaders = TenantHeaders.BELIEVED, verifier: Verifier | None = None
    ) -> None:  # fmt: skip
        self.verifier = verifier or Verifier()
        self.inputs: Mapping[str, tuple[TensorSpec, ...]] = {}
        """By task, the inputs of its signature, which bound how many of them a record can hold."""
        self._tenant_headers = tenant_headers

    def read(self, record: Record, offset_ms: float, digest: str | None = None) -> ReceivedQuery:
        """Read the query in a record; its times are by the clock that the broker's is `offset_ms` ahead of.

        `digest` is the value's SHA-256, where that was worked out before.

        Raises:
            InvalidRequest: it cannot be read; the message says why.
            Forbidden: it asks for what its sender may not have.
            Replayed: it is signed, and was there before.
        """
        return self._parsed(record, offset_ms, self._received(record, digest))

    def read_offline(self, record: Record, offset_ms: float, digest: str | None = None) -> ReceivedQuery:
        """Read the query in a record of a topic of offline queries: it is one, whether it says so or not.

        Raises:
            InvalidRequest: it cannot be read; the message says why.
            Forbidden: it asks for what its sender may not have.
            Replayed: it is signed, and was there before.
        """
        received = self._received(record, digest)
        if received.fields.get(h.MODE) in (None, "", Mode.ONLINE):
            received.fields[h.MODE] = Mode.OFFLINE.value
            headers = [pair for pair in received.headers if pair[0] != h.MODE]
            received = received._replace(headers=[*headers, (h.MODE, Mode.OFFLINE.value.encode())])
        return self._parsed(record, offset_ms, received)

    def unreadable_reply(self, record: Record, error: QueryError) -> Message | None:
        """An error result from what little can be read of a record; None: it names a topic that none may go to.

        One without an id is answered under the place where it stands, which whoever wrote it knows: `topic-3-1042`.
        """
        fields = {name: value.decode(errors="replace") if value else "" for name, value in record.headers}
        query_id, reply_to = whom_to_tell(fields, record.value or b"")
        topic = self._told_at(record, fields, reply_to, error)
        if not topic:
            return None
        if not 0 < len(query_id) <= MAX_ID:
            query_id = f"{record.topic}-{record.partition}-{record.offset}"
        if tenant_of(record.topic) is not None:
            fields.pop(h.REPLY_STREAM, None)
        return error_result(topic, error, failed(query_id, error, fields), fields)

    def proved_tenant(self, record: Record) -> str:
        """The tenant that a record's signature proves to ask; empty: nobody's."""
        return self._proof_of(record).tenant or ""

    def _proof_of(self, record: Record) -> Proof:
        """The proof in a record's signature; none where it is not right, or is used for what it may not."""
        if any(name == h.SIGNATURE for name, _ in record.headers):
            with suppress(InvalidRequest, Forbidden, Replayed):
                return self._received(record, None).proof
        return _UNPROVED

    def _parsed(self, record: Record, offset_ms: float, received: _Received) -> ReceivedQuery:
        task, proof, fields, headers, value = received
        check_headers(fields)
        query = parse_query(task, fields, record.timestamp, offset_ms, owner=proof.tenant)
        if query.batch > 1:
            self._check_batch(query, fields, value)
        if h.TURNED_AWAY in fields and tenant_of(record.topic) is None:
            query = msgspec.structs.replace(query, turned_away=self.verifier.turned_away(record, query, fields))
        return ReceivedQuery(query, fields, headers, value)

    def _check_batch(self, query: Query, fields: Mapping[str, str], value: bytes | None) -> None:
        """Check that a record is large enough for the number of inputs that its header claims."""
        specs, size = self.inputs.get(query.task), len(value or b"")
        if specs is not None and query.batch > (most := most_inputs(specs, fields, size)):
            raise InvalidRequest(
                f"header {h.BATCH} says that the query holds {query.batch} inputs, but {size} bytes hold {most} at most"
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
        """The headers of a query whose tenant nothing proves."""
        if self._tenant_headers is TenantHeaders.REFUSED:
            raise Forbidden(
                f"header {h.TENANT} names a tenant, and nothing proves it: ask by the tenant's own topic, or sign"
            )
        del fields[h.TENANT]
        return [pair for pair in headers if pair[0] != h.TENANT]

    def _told_at(self, record: Record, fields: dict[str, str], reply_to: str, error: QueryError) -> str:
        """Topic in which whoever wrote a record is told that it cannot be read; empty: nobody can be."""
        if isinstance(error, _ForeignReplyTopic):
            return tenant_results_topic(error.tenant)
        tenant = tenant_of(record.topic)
        # What is forbidden proves nothing, however often it is looked at.
        proof = Proof(tenant, by_system=False) if tenant or isinstance(error, Forbidden) else self._proof_of(record)
        owner = proof.tenant
        if owner is not None and not proof.by_system:
            own = reply_to.startswith(tenant_prefix(owner)) and may_reply_to(reply_to, owner)
            return reply_to if own else tenant_results_topic(owner)
        reply_to = reply_to or results_topic(task_of(record.topic))
        # Whoever reads a private reply topic asks for a correlation: so a key that is void can be told there.
        told = may_reply_to(reply_to, owner) or (isinstance(error, Forbidden) and is_reply_topic(reply_to))
        return reply_to if told else ""


def _as_signed(proof: Proof, fields: dict[str, str], headers: RawHeaders) -> RawHeaders:
    """The headers of a query that was signed, which says whose it is whether a header does or not."""
    tenant = proof.tenant
    if tenant is None:
        return headers
    added = {} if h.TENANT in fields else {h.TENANT: tenant}
    if not proof.by_system and (topic := _own_reply_topic(tenant, fields)) != fields.get(h.REPLY_TO):
        added[h.REPLY_TO] = topic
    fields |= added
    return [*headers, *((name, text.encode()) for name, text in added.items())]


def _as_of_tenant(tenant: str, fields: dict[str, str], headers: RawHeaders) -> RawHeaders:
    """The headers of a query out of a tenant's ingress topic: who it is, its topic says, and no header.

    It is answered in the tenant's own topics, and nowhere else: not over a connection to where it says, either.
    """
    fields[h.REPLY_TO] = _own_reply_topic(tenant, fields)
    for name in _NOT_OF_TENANT:
        fields.pop(name, None)
    fields[h.TENANT] = tenant
    kept = [pair for pair in headers if pair[0] not in _NOT_OF_TENANT]
    kept.append((h.TENANT, tenant.encode()))
    return kept


def _own_reply_topic(tenant: str, fields: dict[str, str]) -> str:
    """The tenant's own topic that a query is answered in."""
    reply_to = fields.get(h.REPLY_TO) or tenant_results_topic(tenant)
    if not reply_to.startswith(tenant_prefix(tenant)):
        raise _ForeignReplyTopic(tenant, reply_to)
    return reply_to


def _named_task(fields: dict[str, str]) -> str:
    task = fields.get(h.TASK, "")
    if not is_name(task):
        raise InvalidRequest(f"header {h.TASK} must name the task that is asked, not {task[:80]!r}")
    return task


def error_result(topic: str, error: QueryError, headers: RawHeaders, fields: dict[str, str]) -> Message:
    """The record of an error result; `headers` begin with the query's id, `fields` are the query's own headers."""
    stream = fields.get(h.REPLY_STREAM, "")
    return Message(topic, error_value(str(error)), headers, headers[0][1], status=error.code.value, stream=stream)


def _unwrapped(record: Record) -> tuple[dict[str, str], RawHeaders, bytes | None]:
    try:
        fields = as_text(record.headers)
    except UnicodeError:
        raise InvalidRequest("the name or the value of a header is not UTF-8") from None
    content_type = fields.get(h.CONTENT_TYPE)
    if SPEC_VERSION not in fields and not (content_type and _EVENT in content_type.lower()):
        return fields, record.headers, record.value  # pyright: ignore[reportReturnType] - a tuple of pairs will do
    event = unwrap(fields, record.value or b"")
    if event is None:
        raise InvalidRequest("the record says it is a CloudEvent, and is none")
    inner, data = event
    return inner, [(name, text.encode()) for name, text in inner.items()], data
