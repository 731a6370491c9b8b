"""Tests of received queries: the tenant by topic, header or signature, reply topics, and headers that are passed on."""

from typing import Any

import pytest
from msgspec.structs import astuple, replace

from broker.kafka.types import Record
from process.security.signature import SigningKey, rejected_upstream_proof, sign, system_key, tenant_key
from schemas import headers as h
from schemas.errors import Forbidden, InvalidRequest, Overloaded
from selector.admission.received_query import QueryReader, TenantHeaders, error_result
from selector.admission.signatures import Replayed, Verifier
from selector.dispatch.dispatcher import forwarded, moved
from selector.policy.choice import Choice
from selector.policy.variants import PricedVariant
from tests.example_rows import a_profile, a_variant

STRUCTURED = b"application/cloudevents+json"
STREAM = "127.0.0.1:1 secret"
READER = QueryReader()
INGRESS = "infaas.ingress.acme"
EVENT = b'{"specversion": "1.0", "id": "1", "task": "digits", "tenant": "globex", "data": {}}'


def record(topic: str = "infaas.tasks.digits", value: bytes = b"{}", **fields: str) -> Record:
    headers = [(name.replace("_", "-"), text.encode()) for name, text in fields.items()]
    return Record(topic, 1, 7, 1_000, 0, b"k", value, tuple(headers))


CLAIMS: dict[str, Any] = {
    "infaas_id": "1", "infaas_task": "digits", "infaas_tenant": "globex", "infaas_reply_stream": STREAM,
    "infaas_signature": "void",
}  # fmt: skip


def test_error_result_uses_stream_without_its_secret() -> None:
    asked = record(infaas_id="1", infaas_reply_to="infaas.replies.me", infaas_reply_stream=STREAM)
    unreadable = READER.unreadable_reply(asked, InvalidRequest("no"))
    query, fields, _headers, *_ = astuple(READER.read(asked, 0.0))
    error = Overloaded("later")
    refused = error_result(query.reply_to, query.id, error, fields)
    for message in (unreadable, refused):
        assert message is not None
        assert (message.topic, message.stream) == ("infaas.replies.me", STREAM)
        assert not any(b"secret" in value for _, value in message.headers)


def test_forwarded_query_keeps_its_reply_stream_but_no_claims() -> None:
    asked = record(infaas_id="1", infaas_reply_stream=STREAM, infaas_linger_ns="1000000", infaas_copied="true")
    query, _fields, headers, *_ = astuple(READER.read(asked, 0.0))
    choice = Choice(PricedVariant(a_variant(), a_profile()), None, None, 0.0, 0.0, b"")  # pyright: ignore[reportArgumentType]
    for sent in (forwarded(query, choice, headers, 1.0, 0.0, None), moved(query, headers, 0.0)):
        assert (h.REPLY_STREAM, STREAM.encode()) in sent
        assert h.LINGER_NS not in dict(sent)  # otherwise the linger would count twice
    assert h.COPIED not in dict(forwarded(query, choice, headers, 1.0, 0.0, None)), "a client cannot have a copy"


@pytest.mark.parametrize("mode", TenantHeaders)
@pytest.mark.parametrize(
    "asked",
    [
        record(INGRESS, **CLAIMS),
        record(f"{INGRESS}.offline", **CLAIMS),
        record(INGRESS, EVENT, content_type="application/cloudevents+json"),
    ],
    ids=["online", "offline", "event"],
)
def test_ingress_topic_determines_the_tenant(asked: Record, mode: TenantHeaders) -> None:
    query, fields, headers, *_ = astuple(QueryReader(mode).read(asked, 0.0, offline=True))
    assert (query.task, query.tenant, query.reply_to) == ("digits", "acme", "infaas.tenants.acme.results")
    assert [value for name, value in headers if name == h.TENANT] == [b"acme"]
    assert h.REPLY_STREAM not in dict(headers) | fields
    assert h.SIGNATURE not in dict(headers)


@pytest.mark.parametrize(
    "reply_to",
    [
        "infaas.tenants.globex.results",
        "infaas.tenants.acme",
        "infaas.tenants.acme2.results",
        "infaas.replies.gateway-1",
        "elsewhere",
    ],
)
def test_ingress_query_rejects_foreign_reply_topic(reply_to: str) -> None:
    asked = record(INGRESS, infaas_id="1", infaas_task="digits", infaas_reply_to=reply_to, infaas_reply_stream=STREAM)
    with pytest.raises(Forbidden, match=r"begin with infaas\.tenants\.acme\."):
        READER.read(asked, 0.0)
    message = READER.unreadable_reply(asked, Forbidden("no"))
    assert message is not None
    assert (message.topic, message.stream) == ("infaas.tenants.acme.results", "")


def test_ingress_query_accepts_any_own_reply_topic() -> None:
    own = "infaas.tenants.acme.replies.me"
    query, *_ = astuple(READER.read(record(INGRESS, infaas_id="1", infaas_task="digits", infaas_reply_to=own), 0.0))
    assert query.reply_to == own
    with pytest.raises(InvalidRequest, match="is not the name of a topic"):
        READER.read(record(INGRESS, infaas_id="1", infaas_task="digits", infaas_reply_to=f"{own}/"), 0.0)


@pytest.mark.parametrize("task", ["", "a.b", "infaas.tasks.digits"])
def test_ingress_query_must_name_its_task(task: str) -> None:
    with pytest.raises(InvalidRequest, match="infaas-task must hold the name of a task"):
        READER.read(record(INGRESS, infaas_id="1", infaas_task=task), 0.0)


@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_task_query_rejects_reply_topic_of_a_tenant(tenant: str) -> None:
    asked = record(infaas_id="1", infaas_tenant=tenant, infaas_reply_to="infaas.tenants.acme.results")
    with pytest.raises(InvalidRequest, match="a tenant's own topic"):
        READER.read(asked, 0.0)
    assert READER.unreadable_reply(asked, InvalidRequest("no")) is None


def test_tenant_header_without_proof_depends_on_mode() -> None:
    asked = record(infaas_id="1", infaas_tenant="acme")
    assert QueryReader(TenantHeaders.BELIEVED).read(asked, 0.0).query.tenant == "acme"
    query, fields, headers, *_ = astuple(QueryReader(TenantHeaders.IGNORED).read(asked, 0.0))
    assert (query.tenant, h.TENANT in fields, h.TENANT in dict(headers)) == (None, False, False)
    with pytest.raises(Forbidden, match="names a tenant without proof"):
        QueryReader(TenantHeaders.REFUSED).read(asked, 0.0)
    assert QueryReader(TenantHeaders.REFUSED).read(record(infaas_id="1"), 0.0).query.tenant is None


@pytest.mark.parametrize("name", ["infaas_latency", "infaas_min_acuracy", "infaas_new_need"])
def test_query_reader_refuses_unknown_need(name: str) -> None:
    header = name.replace("_", "-")
    asked = replace(record(), headers=((h.ID, b"1"), (header, b"1")))
    with pytest.raises(InvalidRequest, match=header):
        READER.read(asked, 0.0)
    READER.read(record(infaas_id="1", infaas_x_hint="1", my_own="1"), 0.0)


@pytest.mark.parametrize(
    ("headers", "value", "told"),
    [
        ([("content-type", STRUCTURED)], b'{"specversion": "0.3", "id": "e", "replyto": "mine"}', ("mine", "e")),
        ([("content-type", STRUCTURED)], b'{"specversion": "1.0", "id": "e", "minacuracy": 1}', (None, "e")),
        ([("content-type", STRUCTURED)], b'{"specversion": "1.0", "replyto": "mine"}', ("mine", None)),
        ([("content-type", STRUCTURED), ("infaas-reply-to", b"mine")], b"no JSON", ("mine", None)),
        ([("content-type", b"application/cloudevents+avro"), ("infaas-id", b"1")], b"", (None, "1")),
        ([("ce_specversion", b"1.0"), ("ce_replyto", b"mine")], b"{}", ("mine", None)),
        ([("ce_specversion", b"1.0"), ("ce_id", b"e"), ("ce_latency", b"5")], b"{}", (None, "e")),
        ([], b"{}", (None, None)),
    ],
)
def test_unreadable_reply_answers_invalid_event(
    headers: list[tuple[str, bytes]], value: bytes, told: tuple[str | None, str | None]
) -> None:
    asked = replace(record(), headers=tuple(headers), value=value)
    with pytest.raises(InvalidRequest) as refused:
        READER.read(asked, 0.0)
    message = READER.unreadable_reply(asked, refused.value)
    assert message is not None
    topic, query_id = told
    assert message.topic == (topic or "infaas.results.digits")
    assert dict(message.headers)[h.ID].decode() == (query_id or "infaas.tasks.digits-1-7")
    assert message.stream == ""
    event = replace(record(), headers=(("content-type", STRUCTURED),), value=b'{"replyto": "infaas.status"}')
    assert READER.unreadable_reply(event, InvalidRequest("no")) is None


# -- signatures --------------------------------------------------------------------------------------------------------


SECRET = b"s" * 32
ACME, GLOBEX = tenant_key(SECRET, "acme", 3), tenant_key(SECRET, "globex", 1)
AT_MS = 1_700_000_000_000


def reader(headers: TenantHeaders = TenantHeaders.REFUSED, secret: bytes | None = SECRET) -> QueryReader:
    verifier = Verifier(secret)
    verifier.key_numbers = {"acme": 3, "globex": 1, "nokey": 0}
    return QueryReader(headers, verifier)


def signed(
    key: SigningKey, *, at_ms: int = AT_MS, offset: int = 7, topic: str = "infaas.tasks.digits", **fields: str
) -> Record:
    named = {h.ID: "1"} | {name.replace("_", "-"): text for name, text in fields.items()}
    named[h.SIGNATURE] = sign(key, "digits", named, b"{}", at_ms)
    headers = tuple((name, text.encode()) for name, text in named.items())
    return Record(topic, 1, offset, AT_MS, 0, b"k", b"{}", headers)


@pytest.mark.parametrize("mode", TenantHeaders)
def test_signature_proves_its_tenant(mode: TenantHeaders) -> None:
    for record in (signed(ACME), signed(ACME, infaas_tenant="acme", offset=8)):
        query, fields, headers, *_ = astuple(reader(mode).read(record, 0.0))
        assert (query.tenant, fields[h.TENANT], dict(headers)[h.TENANT]) == ("acme", "acme", b"acme")
    assert reader(mode).read(signed(system_key(SECRET), infaas_tenant="anybody"), 0.0).query.tenant == "anybody"
    assert reader(mode).read(signed(system_key(SECRET)), 0.0).query.tenant is None
    right, wrong = signed(ACME, infaas_tenant="acme"), signed(GLOBEX, infaas_tenant="acme")
    unsigned = replace(right, headers=((h.TENANT, b"acme"),))
    assert [reader(mode).proved_tenant(record) for record in (right, wrong, unsigned)] == ["acme", "", ""]


@pytest.mark.parametrize("mode", TenantHeaders)
@pytest.mark.parametrize(
    ("key", "named"),
    [
        (ACME, "globex"),
        (tenant_key(SECRET, "acme", 2), "acme"),
        (tenant_key(SECRET, "nokey", 0), "nokey"),
        (tenant_key(SECRET, "unknown", 1), "unknown"),
        (tenant_key(b"o" * 32, "acme", 3), "acme"),
        (SigningKey("globex.1", ACME.secret), "globex"),
        (SigningKey("system", ACME.secret), "globex"),
    ],
)
def test_signature_for_another_tenant_is_refused(mode: TenantHeaders, key: SigningKey, named: str) -> None:
    with pytest.raises(Forbidden):
        reader(mode).read(signed(key, infaas_tenant=named), 0.0)


@pytest.mark.parametrize("away_ms", [-301_000, 301_000])
def test_signature_of_another_time_or_without_secret_is_refused(away_ms: int) -> None:
    with pytest.raises(Forbidden, match="301 s before or after"):
        reader().read(signed(ACME, at_ms=AT_MS + away_ms), 0.0)
    with pytest.raises(Forbidden, match="INFAAS_SIGNING_SECRET is not set"):
        reader(TenantHeaders.BELIEVED, None).read(signed(ACME), 0.0)


def test_signature_replay_is_refused_but_not_redelivery() -> None:
    one = reader()
    first, again = signed(ACME), signed(ACME, offset=8)
    for _ in range(2):
        assert one.read(first, 0.0).query.tenant == "acme"
    with pytest.raises(Replayed):
        one.read(again, 0.0)
    assert one.read(signed(ACME, at_ms=AT_MS + 1, offset=9), 0.0).query.id == "1"
    assert reader().read(again, 0.0).query.tenant == "acme"


@pytest.mark.parametrize(
    "topic", ["infaas.replies.gateway-1", "infaas.jobs", "infaas.results.digits", "infaas.tenants.globex.results", "x"]
)
def test_signed_query_is_answered_in_own_topics(topic: str) -> None:
    own, one = "infaas.tenants.acme.results", reader()
    assert one.read(signed(ACME, infaas_reply_to=own), 0.0).query.reply_to == own
    query, fields, headers, *_ = astuple(one.read(signed(ACME, offset=8), 0.0))
    assert (query.reply_to, fields[h.REPLY_TO], dict(headers)[h.REPLY_TO]) == (own, own, own.encode())
    asked = signed(ACME, infaas_reply_to=topic, offset=9)
    with pytest.raises(Forbidden, match=r"begin with infaas\.tenants\.acme\.") as refused:
        one.read(asked, 0.0)
    told = one.unreadable_reply(asked, refused.value)
    assert told is not None
    assert told.topic == own
    assert one.proved_tenant(asked) == "", "sent again it would be signed by the system, which may name any topic"
    for named in ("", "infaas.tenants.acme.replies.me"):
        told = reader().unreadable_reply(signed(ACME, infaas_reply_to=named), InvalidRequest("no"))
        assert told is not None
        assert told.topic == (named or own)
    by_system = signed(system_key(SECRET), infaas_tenant="acme", infaas_reply_to="infaas.replies.gateway-1")
    assert reader().read(by_system, 0.0).query.reply_to == "infaas.replies.gateway-1"


def test_unreadable_reply_to_void_key_needs_correlation() -> None:
    """A void key proves nothing: a reader that pairs by id alone gets no error, or anyone could fail its queries."""
    void = tenant_key(SECRET, "acme", 2)
    for reply_to, told_at in (
        ("infaas.tenants.acme.replies.client-1", "infaas.tenants.acme.replies.client-1"),
        ("infaas.tenants.acme.results", None),
    ):
        asked = signed(void, infaas_reply_to=reply_to)
        with pytest.raises(Forbidden) as refused:
            reader().read(asked, 0.0)
        told = reader().unreadable_reply(asked, refused.value)
        assert (None if told is None else told.topic) == told_at


async def test_moved_query_is_signed_for_later_reading() -> None:
    record = signed(ACME, topic="infaas.tasks.digits.offline")
    query, _fields, headers, value, *_ = astuple(reader().read(record, 0.0, offline=True))
    assert query.needs.mode == "offline"
    unsigned = [pair for pair in headers if pair[0] != h.SIGNATURE]
    moved = await reader().verifier.sign(query, unsigned, value, AT_MS + 9_000)
    again = replace(record, offset=9, timestamp=AT_MS + 9_000, headers=tuple(moved))
    assert reader().read(again, 0.0, offline=True).query.tenant == "acme"
    one = reader()
    for offset in range(3):  # several in one ms are no replays
        moved = await one.verifier.sign(query, unsigned, value, AT_MS)
        assert one.read(replace(record, offset=offset, headers=tuple(moved)), 0.0, offline=True).query.tenant == "acme"


SYSTEM_SECRET = b"of the system, in Postgres, 32 b"


@pytest.mark.parametrize("key", [ACME, system_key(SECRET)])
def test_signature_does_not_prove_refusal_count(key: SigningKey) -> None:
    counting = reader()
    counting.verifier = Verifier(SECRET, system_secret=SYSTEM_SECRET)
    counting.verifier.key_numbers = {"acme": 3}
    sent_ns, count = f"{AT_MS}000000", "7"
    proof = rejected_upstream_proof(SYSTEM_SECRET, "digits", "1", sent_ns, count)
    said = {"infaas_sent_ns": sent_ns, "infaas_rejected_upstream": count}
    wrong = rejected_upstream_proof(SECRET, "digits", "1", sent_ns, count)
    for offset, more in enumerate(({}, {"infaas_x_rejected_upstream_proof": wrong})):
        record = signed(key, at_ms=AT_MS + offset, offset=offset, **said, **more)
        assert counting.read(record, 0.0).query.rejected_upstream == 0
    proved = said | {"infaas_x_rejected_upstream_proof": proof}
    record = signed(key, at_ms=AT_MS + 2, offset=2, **proved)
    assert [counting.read(record, 0.0).query.rejected_upstream for _ in range(2)] == [7, 7], (
        "delivered again, it is the same"
    )
    elsewhere = signed(key, at_ms=AT_MS + 3, offset=3, **proved)
    assert counting.read(elsewhere, 0.0).query.rejected_upstream == 0, "written again, it is another query's"
    late = replace(signed(key, at_ms=AT_MS + 4, offset=4, **proved), timestamp=AT_MS + 60_001)
    assert counting.read(late, 0.0).query.rejected_upstream == 0
