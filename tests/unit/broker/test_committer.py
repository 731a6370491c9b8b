"""Tests of `Committer` where its coordinator is slow: each commit ends in time, and no watermark is forgotten."""

import asyncio
import math
from collections.abc import Iterator, Mapping

import pytest
from aiokafka import TopicPartition

from broker.delivery.committer import Committer
from broker.delivery.group import Coordinator
from broker.delivery.in_flight import InFlightTracker, RecordMemory
from broker.kafka.types import Record
from tests.unit.broker.quick_loop import QuickLoop

TIMEOUT_S = 0.2
PARTITION = TopicPartition("t", 0)


class Slow(Coordinator):
    """Coordinator that answers as soon as the test lets it."""

    def __init__(self) -> None:
        self.name, self.epoch = "slow", 0
        self.takes_s = math.inf
        self.found: dict[TopicPartition, int] = {}

    async def commit(self, offsets: Mapping[TopicPartition, int], note: str) -> None:
        await asyncio.sleep(self.takes_s)
        self.found.update(offsets)


class Scene:
    """Committer of one consumer, which has finished the first of two records."""

    def __init__(self) -> None:
        self.coordinator = Slow()
        self.committer = Committer(self.coordinator, "test", TIMEOUT_S)
        self.tracker = InFlightTracker(10, RecordMemory(1000))
        self.committer.attach(self.tracker)
        self.tracker.hand_out(PARTITION, {0: 1, 1: 1})
        self.finish(0)

    def finish(self, offset: int) -> None:
        self.tracker.done(Record(*PARTITION, offset, 0, 0, b"k", b"v", ()))


@pytest.fixture
def loop() -> Iterator[QuickLoop]:
    made = QuickLoop()
    yield made
    made.close()


def test_commits_at_once_end_within_one_timeout(loop: QuickLoop) -> None:
    scene = Scene()

    async def commit_at_once() -> list[bool]:
        return await asyncio.gather(*[scene.committer.commit() for _ in range(10)])

    assert loop.run_until_complete(commit_at_once()) == [False] * 10
    assert loop.time() < 2 * TIMEOUT_S
    scene.coordinator.takes_s = 0.0
    assert loop.run_until_complete(scene.committer.commit())
    assert scene.coordinator.found == {PARTITION: 1}


def test_watermark_is_committed_after_commit_that_waited_in_vain(loop: QuickLoop) -> None:
    scene = Scene()
    scene.coordinator.takes_s = 10 * TIMEOUT_S
    first = loop.create_task(scene.committer.commit(20 * TIMEOUT_S))
    running = loop.create_task(scene.committer.run())
    loop.pass_time(TIMEOUT_S)
    scene.coordinator.takes_s = 0.0
    scene.finish(1)  # the commit of this waits for the first one
    loop.pass_time(30 * TIMEOUT_S)
    assert first.result()
    assert scene.coordinator.found == {PARTITION: 2}
    running.cancel()
    loop.run_until_complete(asyncio.wait({running}))
