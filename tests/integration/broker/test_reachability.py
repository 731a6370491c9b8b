"""What services say of Kafka when they are asked how they are."""

from pathlib import Path

from broker.reachability import KafkaReachability
from broker.servers.apache import ApacheKafka
from broker.settings import KafkaSettings
from process.ports import free_port
from tests.processes import suspended
from tests.waiting import until


async def test_one_broker_that_answers_is_enough(kafka: KafkaSettings) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    both = kafka.model_copy(update={"bootstrap": f"{nowhere}, {kafka.bootstrap}"})
    await until(lambda: answers(KafkaReachability(both)))
    assert nowhere in await KafkaReachability(KafkaSettings(bootstrap=nowhere)).problem()


async def test_a_broker_that_hangs_or_is_gone_is_away(tmp_path: Path) -> None:
    async with ApacheKafka(tmp_path) as broker:
        reachability = KafkaReachability(broker.settings)
        await until(lambda: answers(reachability))
        async with suspended(broker.pid):
            assert "does not answer" in await KafkaReachability(broker.settings).problem()
        await until(lambda: answers(reachability))
    assert "does not answer" in await KafkaReachability(broker.settings).problem()


async def answers(reachability: KafkaReachability) -> bool:
    """Whether Kafka answers within the second or two that it has, which a busy machine may take for itself."""
    return not await reachability.problem()
