"""Tests of the dispatchers: outcomes of queries, delays of fetches, counts of load, samples of forgeries."""

import asyncio
from contextlib import nullcontext
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.arrivals import SHARE, UNHURRIED_S
from broker.delivery.consumer import Consumer
from broker.kafka.clocks import BrokerClocks
from broker.kafka.types import KafkaError, Record
from broker.producing.producer import Ack, BatchedAck, Producer
from schemas import headers as h
from schemas.load_classes import CLASSES, LoadClass, latency_bucket
from schemas.query import Mode, Needs, Query
from schemas.topics import ingress_topic, task_topic
from selector.dispatch.dispatcher import EACH_S, MOST_AT_ONCE, DemandSender, DispatchContext, ForbiddenSampler
from selector.dispatch.fetch_delay import LONGEST_S, SCARCE, SPARE, FetchDelay
from selector.dispatch.load_meter import LoadMeter
from selector.dispatch.metrics import SelectorMetrics
from selector.dispatch.online import Dispatcher
from selector.policy.choice import PolicyConfig
from selector.policy.replicas import TaskShare
from selector.service import task_shares
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


@pytest.mark.parametrize("defect", [False, True])
async def test_dispatcher_finishes_written_queries_together(monkeypatch: pytest.MonkeyPatch, defect: bool) -> None:
    """A defect of its accounts is raised, and the producer logs it; but the queries are finished."""
    scene = Scene()
    await scene.forward()

    def fail(*_arguments: object) -> None:
        raise TypeError("a defect")

    if defect:
        monkeypatch.setattr(scene.state, "acknowledged", fail)
    (sink,) = {on_ack.sink for on_ack in scene.kafka.held}
    with pytest.raises(TypeError) if defect else nullcontext():
        sink(scene.kafka.held, Ack("t", 0, 100))
    assert scene.consumer.finished == [0, 1, 2]
    assert defect or scene.unacked() == 0


def test_forbidden_sampler_keeps_part_of_flood() -> None:
    sampler, day_s = ForbiddenSampler(0.0), 86_400
    assert sum(sampler.take(1.0) for _ in range(10 * MOST_AT_ONCE)) == MOST_AT_ONCE
    assert sum(sampler.take(1.0 + second) for second in range(day_s)) <= day_s / EACH_S
    assert sum(sampler.take(1e9) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE, "no more is saved"


def test_shares_are_the_partitions_that_are_read() -> None:
    digits, words = task_topic("digits"), task_topic("words")
    reading = [(digits, 1), (digits, 3), (words, 2), (ingress_topic("acme"), 0)]
    assert task_shares(reading, {digits: 4, words: 2}) == {
        "digits": TaskShare(frozenset({1, 3}), 4),
        "words": TaskShare(frozenset({2}), 3),  # a partition that the catalog does not know yet
    }


# -- delay of fetches on a machine without free CPU time ---------------------------------------------------------------


def rest_after(per_s: float, left_s: float | None, cpu_busy: float, lingered: bool = False) -> float:
    """Return the rest after two seconds of a steady flow in which each query is taken alone."""
    delay, rest_s = FetchDelay(2 * LONGEST_S), 0.0
    for number in range(round(2 * per_s)):
        delay.take(100 + number / per_s, left_s)
        if lingered:
            delay.take_lingered()
        rest_s = delay.rest_s(cpu_busy)
    return rest_s


def test_fetch_delay_rests_for_share_of_deadline() -> None:
    assert rest_after(500, 0.1, 1.0) == SHARE * 0.1
    assert rest_after(500, 60.0, 1.0) == LONGEST_S
    assert rest_after(500, None, SCARCE) == UNHURRIED_S
    assert rest_after(20, 1.0, 1.0) == 0, "queries are rare"
    assert rest_after(500, 60.0, 1.0, lingered=True) == 0, "they have lingered"
    simultaneous = FetchDelay(LONGEST_S)
    for _ in range(100):
        simultaneous.take(100.0, 60.0)
    assert simultaneous.rest_s(1.0) == LONGEST_S


@given(per_s=st.floats(1, 2000), left_s=st.one_of(st.none(), st.floats(0, 100)), cpu_busy=st.floats(0, SPARE))
def test_fetch_delay_never_rests_with_free_cpu(per_s: float, left_s: float | None, cpu_busy: float) -> None:
    assert rest_after(per_s, left_s, cpu_busy) == 0


def test_fetch_delay_uses_nearest_deadline() -> None:
    delay = FetchDelay(LONGEST_S)
    for number in range(1000):
        delay.take(100 + number / 500, 60.0)
    delay.take(102.0, 0.1)
    delay.take(102.0, 60.0)
    assert delay.rest_s(1.0) == SHARE * 0.1
    assert delay.rest_s(1.0) == 0  # nothing was taken since


@given(
    taken=st.lists(st.tuples(st.floats(0, 0.02), st.one_of(st.none(), st.floats(-1, 100)), st.booleans()), max_size=60),
    longest_s=st.floats(0, LONGEST_S),
)
def test_fetch_delay_rest_is_bounded(taken: list[tuple[float, float | None, bool]], longest_s: float) -> None:
    delay, now = FetchDelay(longest_s), 5.0
    for gap, left_s, lingered in taken:
        now += gap
        delay.take(now, left_s)
        if lingered:
            delay.take_lingered()
    assert 0 <= delay.rest_s(1.0) <= longest_s


# -- load by class -----------------------------------------------------------------------------------------------------


VARIANT = "mlp.onnx-fp32.cpu"


def a_query(task: str = "digits", batch: int = 1, within_ms: float | None = None, **needs: object) -> Query:
    return Query(
        id="q", task=task, reply_to="r", sent_ms=1000.0, batch=batch,
        deadline_ms=None if within_ms is None else 1000.0 + within_ms, needs=Needs(**needs),  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def test_load_meter_counts_each_query_in_one_report() -> None:
    meter = LoadMeter("selector-0")
    meter.forwarded(a_query(batch=3), VARIANT, upgraded=False)
    meter.forwarded(a_query(batch=2), VARIANT, upgraded=True)
    meter.refused(a_query(), overloaded=True)
    meter.refused(a_query(), overloaded=False)
    said = meter.report(5.0)
    (count,) = said.classes
    assert (said.selector, said.at_ms, said.variants) == ("selector-0", 5.0, {VARIANT: 5})
    assert count.load_class == LoadClass("digits")
    assert (count.queries, count.inputs, count.refused, count.upgraded) == (4, 7, 1, 1)
    meter.forwarded(msgspec.structs.replace(a_query(batch=2), rejected_upstream=5), VARIANT, upgraded=False)
    (count,) = meter.report(6.0).classes
    assert (count.queries, count.inputs, count.refused) == (6, 12, 5), "a gateway refused five"
    assert meter.report(7.0).classes == ()


def test_load_meter_sums_maximum_costs_of_queries_that_state_one() -> None:
    meter = LoadMeter("selector-0")
    meter.forwarded(a_query(batch=4, max_cost=2.0), VARIANT, upgraded=False)
    meter.refused(msgspec.structs.replace(a_query(max_cost=1.5), rejected_upstream=1), overloaded=True)
    meter.forwarded(a_query(), VARIANT, upgraded=False)
    for absurd in (1e308, 1e308, inf):
        meter.forwarded(a_query(max_cost=absurd), VARIANT, upgraded=False)
    (count,) = meter.report(5.0).classes
    assert (count.queries, count.capped, count.max_costs) == (7, 3, 0.5 + 2 * 1.5)


def test_load_meter_rounds_needs_to_a_class() -> None:
    meter = LoadMeter("s")
    for accuracy, ms in ((0.57, 100), (0.57009, 90.6)):
        needed = a_query(within_ms=ms, min_accuracy=accuracy, target="mlp", mode=Mode.OFFLINE)
        meter.forwarded(needed, VARIANT, upgraded=False)
    (count,) = meter.report(0).classes
    assert count.load_class == LoadClass("digits", "mlp", 0.57, 90.51, True)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.none() | st.floats(0.1, 1e6), st.sampled_from([None, "t"])), max_size=40
    )
)
def test_load_meter_counts_alike_queries_as_others(queries: list[tuple[str, float | None, str | None]]) -> None:
    """Queries with the same needs object, of which a meter remembers the class, and with needs of their own."""
    together, apart = LoadMeter("s"), LoadMeter("s")
    needs = Needs(min_accuracy=0.5)
    for task, within_ms, tenant_class in queries:
        asked = a_query(task, within_ms=within_ms)
        together.forwarded(msgspec.structs.replace(asked, needs=needs), VARIANT, False, tenant_class)
        own = msgspec.structs.replace(asked, needs=Needs(min_accuracy=0.5))
        apart.forwarded(own, VARIANT, False, tenant_class)
    assert together.report(0.0) == apart.report(0.0)


@given(st.floats(min_value=0.07, max_value=1e7))
def test_latency_bucket_contains_its_values(ms: float) -> None:
    bucket = latency_bucket(ms)
    assert 2 ** (bucket / 2) <= ms * (1 + 1e-12)
    assert ms < 2 ** ((bucket + 1) / 2) * (1 + 1e-12)
    for extreme in (-5.0, 0.0, 1e-9, 1e300):
        assert latency_bucket(extreme) in (latency_bucket(0.0), latency_bucket(1e299))


def test_load_meter_bounds_classes_without_loss() -> None:
    meter = LoadMeter("s")
    for number in range(2 * CLASSES):
        needed = a_query(within_ms=2.0 ** (number % 20), min_accuracy=number % 100 / 100)
        meter.forwarded(needed, VARIANT, upgraded=False)
        meter.forwarded(a_query("later", mode=Mode.OFFLINE, target=f"t{number}"), VARIANT, upgraded=False)
    meter.forwarded(a_query("other"), VARIANT, upgraded=False)
    by_task: dict[str, list[int]] = {}
    for count in meter.report(0).classes:
        by_task.setdefault(count.load_class.task, []).append(count.queries)
        assert count.load_class.offline == (count.load_class.task == "later")
    assert by_task["other"] == [1]
    assert max(len(by_task["digits"]), len(by_task["later"])) <= CLASSES
    assert sum(by_task["digits"]) == sum(by_task["later"]) == 2 * CLASSES
