"""Tests of the Kafka load generator: it reads before it sends, and pairs each result with the query it sent."""

import pytest
from confluent_kafka import TopicPartition

from bench.latency.end_to_end import bare_hops
from bench.load.http_load import LoadShape
from bench.load.kafka_load import KafkaQuery, LibrdkafkaLoad, ReportedLoad
from broker.kafka.settings import KafkaSettings

pytestmark = pytest.mark.needs_minutes

QUERIES = [KafkaQuery(value, []) for value in (b"first", b"second")]


@pytest.mark.parametrize("rate", [0.0, 50.0])
async def test_kafka_load_counts_every_result(kafka: KafkaSettings, rate: float) -> None:
    shape = LoadShape(seconds=1.0, connections=2, rate=rate, objective_ms=60_000.0, drain_s=30.0)
    async with bare_hops(kafka) as entry:
        load = ReportedLoad(kafka, entry, QUERIES)
        seen = await load.run(shape)
    assert seen.sent > 0
    assert seen.unanswered == 0
    assert seen.elapsed_s < shape.drain_s, "it went on waiting when all had come back"
    assert seen.in_time == seen.answered == seen.sent
    assert sum(kind.sent for kind in seen.kinds) == seen.sent
    assert all(sample.answer.body == QUERIES[sample.request].value for sample in load.samples)


class _Observed(LibrdkafkaLoad):
    def position(self) -> int:
        """Return the offset up to which the consumer has read."""
        return self._consumer.position([TopicPartition(self._replies, 0)])[0].offset


async def test_kafka_load_reads_before_it_sends(kafka: KafkaSettings) -> None:
    async with bare_hops(kafka) as entry, _Observed(kafka, entry, b"", ()) as load:
        assert load.position() > 0
