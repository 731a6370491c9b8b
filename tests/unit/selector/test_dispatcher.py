"""Tests of the dispatchers: outcomes of forwarded queries, and the sample of forbidden records that is kept."""

import asyncio
from typing import Any

import pytest

from broker.delivery.consumer import Consumer
from broker.kafka.clocks import BrokerClocks
from broker.kafka.types import KafkaError, Record
from broker.producing.producer import Ack, BatchedAck, Producer
from schemas import headers as h
from schemas.topics import task_topic
from selector.dispatch.dispatcher import EACH_S, MOST_AT_ONCE, DemandSender, DispatchContext, ForbiddenSampler
from selector.dispatch.load_meter import LoadMeter
from selector.dispatch.metrics import SelectorMetrics
from selector.dispatch.online import Dispatcher
from selector.policy.choice import PolicyConfig
from tests.unit.selector.story import TASK, three
from tests.waiting import until


class Records(Consumer):
    """Consumer that notes the offsets of finished records."""

    def __init__(self) -> None:
        vars(self)["max_in_flight"] = 100
        self.finished: list[int] = []

    def offset_ms(self, record: Record) -> float:
        return 0.0

    def done(self, *records: Record) -> None:
        self.finished += [record.offset for record in records]


class Kafka(Producer):
    """Producer that holds all records."""

    def __init__(self) -> None:
        vars(self)["clock"] = BrokerClocks()
        self.held: list[BatchedAck] = []
        self.topics_sent: list[tuple[str, int | None]] = []

    def offset_ms(self, topic: str, partition: int) -> float:
        return 0.0

    def acknowledging_s(self) -> float:
        return 0.0

    async def post(self, topic: str, value: bytes | None, on_ack: Any, **further: Any) -> None:
        assert isinstance(on_ack, BatchedAck)
        self.held.append(on_ack)
        self.topics_sent.append((topic, further["partition"]))


class Scene:
    """Dispatcher with three queries that it has forwarded."""

    def __init__(self) -> None:
        self.state, self.consumer, self.kafka = three(), Records(), Kafka()
        streams: Any = None
        context = DispatchContext(
            state=self.state, config=PolicyConfig(), producer=self.kafka, metrics=SelectorMetrics(),
            load_meter=LoadMeter("s"), demands=DemandSender(self.kafka, 1.0), streams=streams,
        )  # fmt: skip
        self.dispatcher = Dispatcher(context, self.consumer, 0.0)

    async def forward(self) -> None:
        records = [Record(task_topic(TASK), 0, offset, 0, 0, b"k", b"v", [(h.ID, b"q")]) for offset in range(3)]
        await self.dispatcher.take_all(records)
        assert len(self.kafka.held) == 3
        assert self.unacked() == 3

    def unacked(self) -> int:
        instances = [one for worker in self.state.workers.values() for one in worker.instances.values()]
        return sum(partition.unacked for one in instances for partition in one.partitions)


async def test_dispatcher_finishes_queries_of_a_batch_together() -> None:
    scene = Scene()
    await scene.forward()
    (sink,) = {on_ack.sink for on_ack in scene.kafka.held}
    sink(scene.kafka.held, Ack("t", 0, 100))
    assert scene.consumer.finished == [0, 1, 2]
    assert scene.unacked() == 0


async def test_dispatcher_finishes_written_queries_despite_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    await scene.forward()

    def fail(*_arguments: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr(scene.state, "acknowledged", fail)
    with pytest.raises(TypeError):  # the producer logs it
        scene.kafka.held[0].sink(scene.kafka.held, Ack("t", 0, 100))
    assert scene.consumer.finished == [0, 1, 2]


async def test_dispatcher_decides_again_on_query_that_failed() -> None:
    scene = Scene()
    retrying = asyncio.create_task(scene.dispatcher.retry_failed())
    await scene.forward()
    scene.kafka.held[1](KafkaError("not now"))
    assert scene.unacked() == 2
    await until(lambda: len(scene.kafka.held) == 4)
    assert scene.unacked() == 3
    scene.kafka.held[3].sink(scene.kafka.held[3:], Ack("t", 0, 100))
    assert scene.consumer.finished == [1]
    retrying.cancel()


def test_forbidden_sampler_keeps_part_of_flood() -> None:
    sampler = ForbiddenSampler(0.0)
    assert sum(sampler.take(1.0) for _ in range(10 * MOST_AT_ONCE)) == MOST_AT_ONCE
    day_s = 86_400
    assert sum(sampler.take(1.0 + second) for second in range(day_s)) <= day_s / EACH_S


def test_forbidden_sampler_saves_no_tokens_beyond_burst() -> None:
    sampler = ForbiddenSampler(0.0)
    assert sum(sampler.take(1e9) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE
