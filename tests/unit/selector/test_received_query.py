"""What a selector answers itself goes where the query says, and a query is passed on with it."""

from broker.kafka_types import Record
from schemas import headers as h
from schemas.errors import InvalidRequest, Overloaded
from selector.forward import failed, forwarded, moved
from selector.policy import Choice
from selector.received_query import error_result, read_query, unreadable_reply
from selector.variants import PricedVariant
from tests.store_rows import a_profile, a_variant

STREAM = "127.0.0.1:1 secret"


def record(**fields: str) -> Record:
    headers = [(name.replace("_", "-"), text.encode()) for name, text in fields.items()]
    return Record("infaas.tasks.digits", 1, 7, 1_000, 0, b"k", b"{}", None, 1, 1, tuple(headers))


def test_an_error_result_goes_straight_back_without_the_secret() -> None:
    asked = record(infaas_id="1", infaas_reply_to="infaas.replies.me", infaas_reply_stream=STREAM)
    unreadable = unreadable_reply(asked, InvalidRequest("no"))
    query, fields, _headers, _value = read_query("digits", asked, 0.0)
    error = Overloaded("later")
    refused = error_result(query.reply_to, error, failed(query.id, error, fields), fields)
    for message in (unreadable, refused):
        assert message is not None
        assert (message.topic, message.stream) == ("infaas.replies.me", STREAM)
        assert not any(b"secret" in value for _, value in message.headers)


def test_a_plain_client_is_answered_by_its_topic() -> None:
    message = unreadable_reply(record(infaas_id="1"), InvalidRequest("no"))
    assert message is not None
    assert message.stream == ""


def test_whoever_answers_in_the_end_is_told_where_to() -> None:
    asked = record(infaas_id="1", infaas_reply_stream=STREAM, infaas_linger_ns="1000000")
    query, _fields, headers, _value = read_query("digits", asked, 0.0)
    choice = Choice(PricedVariant(a_variant(), a_profile()), None, None, 0.0, 0.0, b"")  # pyright: ignore[reportArgumentType]
    for sent in (forwarded(query, choice, headers, 1.0, 0.0, None), moved(query, headers, 0.0)):
        assert (h.REPLY_STREAM, STREAM.encode()) in sent
        assert h.LINGER_NS not in dict(sent)  # it would be counted twice
