"""What services say of Kafka when they are asked how they are."""

import os
import signal
from pathlib import Path

from broker.reachability import KafkaReachability
from broker.servers.apache import ApacheKafka
from broker.settings import KafkaSettings
from process.ports import free_port


async def test_one_broker_that_answers_is_enough(kafka: KafkaSettings) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    both = kafka.model_copy(update={"bootstrap": f"{nowhere}, {kafka.bootstrap}"})
    assert await KafkaReachability(both).problem() == ""
    assert nowhere in await KafkaReachability(KafkaSettings(bootstrap=nowhere)).problem()


async def test_a_broker_that_hangs_or_is_gone_is_away(tmp_path: Path) -> None:
    async with ApacheKafka(tmp_path) as broker:
        reachability = KafkaReachability(broker.settings)
        assert await reachability.problem() == ""
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            assert "does not answer" in await KafkaReachability(broker.settings).problem()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert await reachability.problem() == ""
    assert "does not answer" in await KafkaReachability(broker.settings).problem()
