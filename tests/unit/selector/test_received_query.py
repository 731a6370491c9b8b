"""Tests of received queries: their tenant, the topics of their replies, and the headers that are passed on."""

import pytest
from msgspec.structs import astuple, replace

from broker.kafka.types import Record
from schemas import headers as h
from schemas.errors import Forbidden, InvalidRequest, Overloaded
from selector.admission.received_query import QueryReader, TenantHeaders, error_result
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


def test_unreadable_reply_without_stream_uses_topic() -> None:
    message = READER.unreadable_reply(record(infaas_id="1"), InvalidRequest("no"))
    assert message is not None
    assert message.stream == ""


def test_forwarded_query_keeps_its_reply_stream() -> None:
    asked = record(infaas_id="1", infaas_reply_stream=STREAM, infaas_linger_ns="1000000")
    query, _fields, headers, *_ = astuple(READER.read(asked, 0.0))
    choice = Choice(PricedVariant(a_variant(), a_profile()), None, None, 0.0, 0.0, b"")  # pyright: ignore[reportArgumentType]
    for sent in (forwarded(query, choice, headers, 1.0, 0.0, None), moved(query, headers, 0.0)):
        assert (h.REPLY_STREAM, STREAM.encode()) in sent
        assert h.LINGER_NS not in dict(sent)  # otherwise the linger would count twice


@pytest.mark.parametrize("topic", [INGRESS, f"{INGRESS}.offline"])
def test_ingress_topic_determines_the_tenant(topic: str) -> None:
    asked = record(topic, infaas_id="1", infaas_task="digits", infaas_tenant="globex", infaas_reply_stream=STREAM)
    for reader in map(QueryReader, TenantHeaders):
        query, fields, headers, *_ = astuple(reader.read(asked, 0.0, offline=True))
        assert (query.task, query.tenant, query.reply_to) == ("digits", "acme", "infaas.tenants.acme.results")
        assert [value for name, value in headers if name == h.TENANT] == [b"acme"]
        assert h.REPLY_STREAM not in dict(headers) | fields


def test_ingress_topic_overrides_tenant_of_event() -> None:
    asked = record(INGRESS, EVENT, **{"content-type": "application/cloudevents+json"})
    query, _fields, headers, *_ = astuple(READER.read(asked, 0.0))
    assert (query.task, query.tenant, dict(headers)[h.TENANT]) == ("digits", "acme", b"acme")


@pytest.mark.parametrize(
    "reply_to",
    [
        "infaas.tenants.globex.results",
        "infaas.tenants.acme",
        "infaas.tenants.acme2.results",
        "infaas.results.digits",
        "infaas.replies.gateway-1",
        "infaas.jobs",
        "infaas.ingress.acme",
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


def test_query_reader_accepts_extension_headers() -> None:
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


def test_unreadable_reply_skips_topics_of_the_system() -> None:
    event = replace(record(), headers=(("content-type", STRUCTURED),), value=b'{"replyto": "infaas.status"}')
    assert READER.unreadable_reply(event, InvalidRequest("no")) is None
