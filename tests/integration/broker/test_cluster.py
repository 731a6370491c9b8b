"""Tests of the Kafka check in the health answers of services."""

from pathlib import Path

from broker.kafka.cluster import KafkaReachability
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from process.sockets import free_port
from tests.processes import suspended
from tests.waiting import until


async def test_reachability_needs_one_answering_broker(kafka: KafkaSettings) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    both = kafka.model_copy(update={"bootstrap": f"{nowhere}, {kafka.bootstrap}"})
    await until(lambda: answers(KafkaReachability(both)))
    assert nowhere in await KafkaReachability(KafkaSettings(bootstrap=nowhere)).problem()


async def test_reachability_reports_hanging_or_stopped_broker(tmp_path: Path) -> None:
    async with ApacheKafka(tmp_path) as broker:
        reachability = KafkaReachability(broker.settings)
        await until(lambda: answers(reachability))
        async with suspended(broker.pid):
            assert "does not answer" in await KafkaReachability(broker.settings).problem()
        await until(lambda: answers(reachability))
    assert "does not answer" in await KafkaReachability(broker.settings).problem()


async def answers(reachability: KafkaReachability) -> bool:
    """Return true if Kafka answers within the timeout, which a busy machine may exceed."""
    return not await reachability.problem()
