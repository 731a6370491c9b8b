"""End-to-end time of a small query, without the model's computation, against a bare program of three hops.

The bare program is this client and two forwarding processes. Ours is this client, which receives results over a reply
stream as the client library does, the selector and the worker. Both take turns on the same broker, so that a change of
the machine's speed affects both. The result is the median of the turns' percentiles, so that a short disturbance has no
effect.
"""

import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import msgspec

from bench.core.figures import Figure, at_most, percentile
from bench.core.programs import running_module
from bench.core.rounds import Rounds, take_rounds
from bench.core.system import SystemUnderTest
from bench.load.kafka_load import AnsweredQuery, ClientLoad
from bench.load.pace import small_query
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from schemas.topics import task_topic

LIMITS = {200.0: (1.0, 1.0), 1000.0: (0.7, 0.8)}
"""Limits of our p50 and p99 over the bare program's, by queries per second."""
SECONDS = 10.0
_FORWARDER = "bench.core.baseline"


async def measure(system: SystemUnderTest, broker: str) -> list[Figure]:
    """Measure p50 and p99 at each rate, in milliseconds; the system must be up, with the task `digits` placed."""
    kafka, (value, headers) = system.kafka, small_query()
    figures: list[Figure] = []
    async with (
        bare_hops(kafka) as entry,
        ClientLoad(kafka, entry, value, headers) as bare,
        ClientLoad(kafka, task_topic("digits"), value, headers, listens=kafka.reply_stream.enabled) as ours,
    ):
        for rate in LIMITS:
            await bare.run(rate, 3.0)
            await ours.run(rate, 3.0)

            async def take(_number: int, rate: float = rate) -> tuple[list[AnsweredQuery], list[AnsweredQuery]]:
                baseline = await bare.run(rate, SECONDS)
                return await ours.run(rate, SECONDS), baseline

            figures += _compare(broker, rate, await take_rounds(take))
    return figures


def _compare(broker: str, rate: float, rounds: Rounds[tuple[list[AnsweredQuery], list[AnsweredQuery]]]) -> list[Figure]:
    check_answered(real for real, _ in rounds.taken)
    figures: list[Figure] = []
    for label, share, limit in zip(("p50", "p99"), (0.5, 0.99), LIMITS[rate], strict=True):
        real, bare = (
            [percentile([answer.overhead_ms for answer in answers], share) for answers in side]
            for side in zip(*rounds.taken, strict=True)
        )
        figures.append(at_most(f"end to end less compute, {rate:g}/s, {label}", broker, real, "ms", bare, limit))
    figures = rounds.of(figures)
    if broker == "apache":
        return figures
    # The embedded broker is saturated long before the programs are, so this would measure the broker: no target.
    return [msgspec.structs.replace(figure, target="", passed=None) for figure in figures]


def check_answered(rounds: Iterable[list[AnsweredQuery]]) -> None:
    """Raise `RuntimeError` if a query was not answered with success."""
    failed = [answer.status for answers in rounds for answer in answers if answer.status != "ok"]
    if failed:
        raise RuntimeError(f"{len(failed)} queries failed, the first with {failed[0]}")


def totals_ms(rounds: Iterable[list[AnsweredQuery]], share: float) -> list[float]:
    """Return a percentile of the latencies of each round."""
    return [percentile([answer.total_ms for answer in answers], share) for answers in rounds]


@asynccontextmanager
async def bare_hops(kafka: KafkaSettings) -> AsyncGenerator[str]:
    """Run two forwarding processes in a row; yields the topic of their input."""
    run = uuid.uuid4().hex[:8]
    entry, middle = f"bare-in-{run}", f"bare-mid-{run}"
    await ensure_topics(kafka, [TopicSpec(entry, partitions=4), TopicSpec(middle, partitions=4)])
    async with running_module(kafka, _FORWARDER, entry, middle), running_module(kafka, _FORWARDER, middle):
        yield entry
