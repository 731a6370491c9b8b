"""Tests of the Kafka check in the health answers of services."""

from broker.kafka.cluster import KafkaReachability
from broker.kafka.settings import KafkaSettings
from process.sockets import free_port
from tests.kafka_cluster import Cluster
from tests.waiting import until


async def test_reachability_needs_one_answering_broker(kafka: KafkaSettings) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    both = kafka.model_copy(update={"bootstrap": f"{nowhere}, {kafka.bootstrap}"})
    await until(lambda: answers(KafkaReachability(both)))
    assert f"{nowhere} does not answer" in await KafkaReachability(KafkaSettings(bootstrap=nowhere)).problem()


async def test_reachability_reports_hanging_broker(cluster: Cluster) -> None:
    reachability = KafkaReachability(cluster.settings)
    await until(lambda: answers(reachability))
    async with cluster.stopped(1):
        assert "does not answer" in await KafkaReachability(cluster.settings).problem()
    await until(lambda: answers(reachability))


async def answers(reachability: KafkaReachability) -> bool:
    """Return true if Kafka answers within the timeout, which a busy machine may exceed."""
    return not await reachability.problem()
