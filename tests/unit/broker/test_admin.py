"""Tests of `answered`: errors of librdkafka become operator errors."""

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from broker.kafka.admin import RefusedRequest, UnsupportedRequest, answered
from schemas.errors import OperatorError


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (KafkaError._UNSUPPORTED_FEATURE, UnsupportedRequest, "this Kafka does not support the request: no such thing"),
        (KafkaError.UNSUPPORTED_VERSION, UnsupportedRequest, "this Kafka does not support the request: no such thing"),
        (KafkaError._TIMED_OUT, OperatorError, r"Kafka does not answer \(no such thing\); run the command again"),
        (KafkaError.SECURITY_DISABLED, RefusedRequest, "Kafka refused: no such thing"),
    ],
)
async def test_answered_translates_errors_of_librdkafka(code: int, kind: type[OperatorError], words: str) -> None:
    future = Future[None]()
    future.set_exception(KafkaException(KafkaError(code, "no such thing")))
    with pytest.raises(OperatorError, match=words) as raised:
        await answered(future)
    assert type(raised.value) is kind
