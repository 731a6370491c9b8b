"""`infaas batch topic:IN topic:OUT`: a batch job over a topic, with exactly-once answers in another topic."""

import asyncio
import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from broker.exactly_once.shared_topic import SharedTopic
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics, partitions_of
from infaas.batch.asker import ChunkAsker, Trouble, asking
from infaas.batch.limits import BatchLimits
from infaas.batch.plan import BatchNeeds, Plan, make_plan
from infaas.batch.sink import Progress
from infaas.batch.topics.topic_job import TopicBatchJob, TopicLag
from infaas.batch.topics.topic_output import TopicOutput
from infaas.cli.batch_bar import duration
from infaas.cli.batch_offers import look_up
from infaas.cli.connect import find_kafka
from infaas.cli.output import EXIT_PARTIAL, err, show_json, usd
from infaas.client.client import InfaasClient, QueryOptions
from process.outages import quiet_outages
from schemas.errors import OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import fixed_size
from schemas.topics import batch_group, is_topic, may_reply_to

_SCHEME: Final = "topic:"
_INTERRUPTED: Final = 130
_KEPT_MS: Final = 7 * 86_400_000
"""Retention of topics created here, in milliseconds: Kafka's default."""
_TEXT_BYTES: Final = 256


class TopicsCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job from topic to topic as described by the command line."""

    source: str
    sink: str
    home: Path
    task: str
    needs: BatchNeeds
    limits: BatchLimits
    outputs: tuple[str, ...]
    rows_per_query: int | None
    mixed: bool
    follow: bool
    group: str
    """Consumer group shared by the processes of the job; empty: derived from both topics."""
    headers: tuple[str, ...]
    """Names of the headers to keep; empty: all."""

    @property
    def failed(self) -> str:
        """Topic of failed records."""
        return f"{self.sink}.failed"

    async def run(self, stop: asyncio.Event, *, estimate: bool) -> Progress | None:
        """Run the job to its end or until `stop` is set; returns its progress, None with `estimate`."""
        kafka = find_kafka(self.home)
        task, offers = await look_up(self.home, self.task)
        group = self.group or batch_group(self.source, self.sink)
        async with SharedTopic(kafka, "infaas-batch", self.source, group) as shared:
            records = None if self.follow else await shared.left(await shared.ends())
            plan = make_plan(records, _row_bytes(task.inputs), offers, self.needs, self.limits)
            err.print(self._told(records, group, plan), highlight=False)
            if estimate:
                return None
            output = await self._output(kafka, len(shared.partitions))
            async with InfaasClient(kafka=kafka) as client:
                with TopicBar() as bar:
                    asker = ChunkAsker(asking(client, self.task, self._options(plan)), on_trouble=bar.trouble)
                    job = TopicBatchJob(
                        shared, output, task.inputs, asker.answer, limits=self._limits(plan),
                        chunk_records=self.rows_per_query or plan.chunk_rows, follow=self.follow, observer=bar,
                    )  # fmt: skip
                    return await job.run(stop)

    async def _output(self, kafka: KafkaSettings, partitions: int) -> TopicOutput:
        """Create the missing output topics and look up the partitions of all topics."""
        wanted = {self.sink: partitions, self.failed: 1}
        await ensure_topics(kafka, [TopicSpec(name, count, _KEPT_MS, grows=False) for name, count in wanted.items()])
        found = [partition.topic for partition in await partitions_of(kafka, (self.source, self.sink, self.failed))]
        return TopicOutput(
            topic=self.sink,
            failed_topic=self.failed,
            partitions={topic: found.count(topic) for topic in set(found)},
            headers=frozenset(self.headers) if self.headers else None,
            max_bytes=kafka.max_record_bytes,
        )

    def _limits(self, plan: Plan) -> BatchLimits:
        return msgspec.structs.replace(self.limits, row_cost=plan.row_cost, in_flight=plan.in_flight)

    def _options(self, plan: Plan) -> QueryOptions:
        options = QueryOptions()
        if self.needs.min_accuracy is not None:
            options["min_accuracy"] = self.needs.min_accuracy
        target = self.needs.target if self.mixed else plan.variant
        if target is not None:
            options["target"] = target
        if self.outputs:
            options["outputs"] = self.outputs
        return options

    def _told(self, records: int | None, group: str, plan: Plan) -> str:
        if records == 0:
            return f"group {group} has read all of {self.source}; use another --group to read it again"
        by = "any variant that meets the needs" if self.mixed else f"{plan.variant}, accuracy {plan.accuracy:.2%}"
        if records is None:
            return f"follows {self.source} as group {group}, by {by}"
        expected = f": about {duration(plan.seconds or 0)}, {usd(plan.cost or 0)}"
        return f"{records:,} records of {self.source}, as group {group}, by {by}{expected}"


class TopicBar:
    """Progress bar of a batch job (`TopicObserver`); a context manager."""

    def __init__(self) -> None:
        self._bars = Bars(
            BarColumn(), TextColumn("lag {task.fields[lag]}"), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=err, speed_estimate_period=60,
        )  # fmt: skip
        self._bar: TaskID = self._bars.add_task("", total=None, lag="?")
        self._seen = (time.monotonic(), 0)

    def __enter__(self) -> "TopicBar":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def looked(self, lag: TopicLag, progress: Progress) -> None:
        """See `TopicObserver.looked`."""
        (before_s, before), now_s = self._seen, time.monotonic()
        self._seen = (now_s, progress.rows)
        rate = (progress.rows - before) / max(now_s - before_s, 1e-9)
        failed = f", [red]{progress.failed:,} failed[/]" if progress.failed else ""
        told = f"here {rate:,.0f} records/s of {lag.partitions} partitions, {usd(progress.cost)}{failed}"
        done = max(lag.total - lag.left, 0)
        self._bars.update(self._bar, total=lag.total, completed=done, lag=f"{lag.left:,}", description=told)

    def trouble(self, trouble: Trouble) -> None:
        """Show the reason why queries are retried."""
        self._bars.update(self._bar, description=f"[yellow]waits:[/] {escape(trouble.reason)}")


def topic_of(end: Path) -> str | None:
    """Return the topic named as `topic:NAME`; None for a file.

    Raises:
        OperatorError: the name is not a valid topic.
    """
    if not str(end).startswith(_SCHEME):
        return None
    name = str(end).removeprefix(_SCHEME)
    if not is_topic(name):
        raise OperatorError(f"{name!r} is not a topic name: at most 249 letters, digits, dots, dashes, underscores")
    return name


def topics_of(rows: Path, results: Path) -> tuple[str, str] | None:
    """Return the input and output topics of a batch job; None for one of files.

    Raises:
        OperatorError: only one of the two is a topic, or the output topic is not allowed.
    """
    source, sink = topic_of(rows), topic_of(results)
    if source is None and sink is None:
        return None
    if source is None or sink is None:
        raise OperatorError("input and output must both be topics (topic:NAME) or both be files")
    if source == sink or not may_reply_to(sink) or not may_reply_to(f"{sink}.failed"):
        raise OperatorError(
            f"answers cannot go to {sink}: choose a topic that is neither {source} nor one of this system's own topics"
        )
    return source, sink


def batch_topics(command: TopicsCommand, *, estimate: bool, as_json: bool) -> None:
    """Run a batch job from topic to topic and print its result.

    Raises:
        Exit: the job was stopped, or records failed.
    """
    done, stopped = asyncio.run(_run(command, estimate))
    if done is None:
        return
    if as_json:
        show_json(_facts(command, done))
    else:
        by_now = "" if command.follow or stopped else f"; all of {command.source} has been read"
        err.print(f"{done.answered:,} records answered here, {done.failed:,} failed{by_now}", highlight=False)
        if done.failed:
            err.print(f"failed records, with the reasons, are in the topic {command.failed}", highlight=False)
    if stopped and not command.follow:
        err.print("stopped; run the same command to resume")
        raise typer.Exit(_INTERRUPTED)
    if done.failed:
        raise typer.Exit(EXIT_PARTIAL)


async def _run(command: TopicsCommand, estimate: bool) -> tuple[Progress | None, bool]:
    quiet_outages(False)  # with --follow the command is a service
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await command.run(stop, estimate=estimate), stop.is_set()


def _facts(command: TopicsCommand, done: Progress) -> dict[str, Any]:
    facts = {name: getattr(done, name) for name in ("answered", "failed", "cost", "seconds")}
    return facts | {"output": command.sink, "failed_records": command.failed}


def _row_bytes(inputs: Sequence[TensorSpec]) -> float:
    """Return the approximate size of a row in bytes; dynamic axes count as one."""
    shapes = [(spec.datatype, [1, *(max(length, 1) for length in spec.shape[1:])]) for spec in inputs]
    return sum(fixed_size(datatype, shape) or math.prod(shape) * _TEXT_BYTES for datatype, shape in shapes)
