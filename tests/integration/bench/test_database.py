"""Tests of the databases of benches, on a real Kafka and a real Postgres."""

from bench.core.database import fresh_database
from broker.kafka.settings import KafkaSettings
from registry.system_identity import join_system
from store.pool import Pool


async def test_fresh_database_gives_namespace_back_to_its_system(kafka: KafkaSettings, store_pool: Pool) -> None:
    await join_system(store_pool, kafka, take_over=True)
    async with fresh_database(kafka):
        pass
    await join_system(store_pool, kafka)
