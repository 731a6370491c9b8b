"""Tests of the division of topics among requests that create them."""

from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import MOST_RECORDS, in_requests, new_topic


def test_topics_are_divided_by_their_records() -> None:
    settings = KafkaSettings()
    few = [new_topic(settings, f"few-{number}") for number in range(700)]
    many = [
        new_topic(settings, f"many-{number}", partitions) for number, partitions in enumerate((6_000, 4_000, 3_000))
    ]
    requests = list(in_requests([*few, *many]))
    assert [topic for request in requests for topic in request] == [*few, *many]
    assert [len(request) for request in requests[-3:]] == [1, 1, 1]
    for request in requests:
        records = sum(1 + len(topic.topic_configs) + topic.num_partitions for topic in request)
        assert records <= MOST_RECORDS or len(request) == 1
    assert len(requests) < 7
    assert list(in_requests([])) == []
