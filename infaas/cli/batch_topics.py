"""`infaas batch topic:IN topic:OUT`: a batch job over a topic, with exactly-once answers in another topic."""

import asyncio
import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from msgspec.structs import replace

from broker.delivery.exactly_once import SharedTopic
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics, partitions_of
from infaas.batch.asker import ChunkAsker, asking
from infaas.batch.plan import Offer, Plan, find_offers, make_plan
from infaas.batch.sink import Progress
from infaas.batch.topic_job import TopicBatchJob, TopicOutput
from infaas.cli.batch_bar import TopicBar
from infaas.cli.batch_flags import BatchFlags
from infaas.cli.connect import find_database, find_kafka
from infaas.cli.output import EXIT_PARTIAL, duration, err, show_json
from infaas.client.client import InfaasClient
from process.outages import quiet_outages
from process.security.access import includes, users_by_name
from schemas.errors import OperatorError, UnknownTask
from schemas.hardware import usd
from schemas.rows.catalog import Task, TensorSpec
from schemas.tensors import fixed_size
from schemas.topics import batch_group, is_topic, may_reply_to
from store.catalog import load_catalog
from store.placement import list_instances, list_workers
from store.pool import open_pool

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
    flags: BatchFlags

    @property
    def failed(self) -> str:
        """Topic of failed records."""
        return f"{self.sink}.failed"

    async def run(self, stop: asyncio.Event) -> Progress | None:
        """Run the job to its end or until `stop` is set; returns its progress, None with `--estimate`."""
        flags, limits = self.flags, self.flags.limits
        kafka = find_kafka(self.home)
        task, offers = await look_up(self.home, flags)
        group = flags.group or batch_group(self.source, self.sink)
        async with SharedTopic(kafka, "infaas-batch", self.source, group) as shared:
            records = None if flags.follow else await shared.left(await shared.ends())
            plan = make_plan(records, _row_bytes(task.inputs), offers, flags.needs, limits)
            err.print(self._told(records, group, plan), highlight=False)
            if flags.estimate:
                return None
            output = await self._output(kafka, len(shared.partitions))
            async with InfaasClient(kafka=kafka) as client:
                with TopicBar() as bar:
                    asked = asking(client, flags.task, flags.query_options(flags.target_of(plan)))
                    asker = ChunkAsker(asked, on_trouble=bar.trouble)
                    job = TopicBatchJob(
                        shared, output, task.inputs, asker.answer,
                        limits=replace(limits, row_cost=plan.row_cost, in_flight=plan.in_flight),
                        chunk_records=flags.rows_per_query or plan.chunk_rows, follow=flags.follow, observer=bar,
                        answer_only=flags.answer_only,
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
            headers=frozenset(self.flags.header) if self.flags.header else None,
            max_bytes=kafka.max_record_bytes,
        )

    def _told(self, records: int | None, group: str, plan: Plan) -> str:
        if records == 0:
            return f"group {group} has read all of {self.source}; use another --group to read it again"
        by = "any variant that meets the needs" if self.flags.mixed else f"{plan.variant}, accuracy {plan.accuracy:.2%}"
        if records is None:
            return f"follows {self.source} as group {group}, by {by}"
        expected = f": about {duration(plan.seconds or 0)}, {usd(plan.cost or 0)}"
        return f"{records:,} records of {self.source}, as group {group}, by {by}{expected}"


async def look_up(home: Path, flags: BatchFlags) -> tuple[Task, list[Offer]]:
    """Return the task of a job and the variants that may compute it: only public ones, since a job has no tenant.

    Raises:
        UnknownTask: there is no such task that is public.
        InvalidRequest: the task takes no such options.
    """
    name = flags.task
    async with open_pool(find_database(home), max_size=1) as pool:
        catalog = await load_catalog(pool)
        workers, instances = await list_workers(pool), await list_instances(pool)
    users = users_by_name(catalog.access, catalog.architectures.values())
    task = catalog.tasks.get(name)
    if task is None or not includes(users.get(name), None):
        raise UnknownTask(f"no task is called {name!r}; `infaas tasks` lists the tasks")
    flags.check(task)
    usable = [row for row in catalog.variants.values() if includes(users.get(row.architecture), None)]
    profiles = catalog.profiles
    return task, find_offers(task.name, usable, profiles, workers, instances, max_tokens=flags.max_tokens)


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


def batch_topics(command: TopicsCommand, *, as_json: bool) -> None:
    """Run a batch job from topic to topic and print its result.

    Raises:
        Exit: the job was stopped, or records failed.
    """
    done, stopped = asyncio.run(_run(command))
    if done is None:
        return
    if as_json:
        show_json(_facts(command, done))
    else:
        by_now = "" if command.flags.follow or stopped else f"; all of {command.source} has been read"
        err.print(f"{done.answered:,} records answered here, {done.failed:,} failed{by_now}", highlight=False)
        if done.failed:
            err.print(f"failed records, with the reasons, are in the topic {command.failed}", highlight=False)
    if stopped and not command.flags.follow:
        err.print("stopped; run the same command to resume")
        raise typer.Exit(_INTERRUPTED)
    if done.failed:
        raise typer.Exit(EXIT_PARTIAL)


async def _run(command: TopicsCommand) -> tuple[Progress | None, bool]:
    quiet_outages(False)  # with --follow the command is a service
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await command.run(stop), stop.is_set()


def _facts(command: TopicsCommand, done: Progress) -> dict[str, Any]:
    facts = {name: getattr(done, name) for name in ("answered", "failed", "cost", "seconds")}
    return facts | {"output": command.sink, "failed_records": command.failed}


def _row_bytes(inputs: Sequence[TensorSpec]) -> float:
    """Return the approximate size of a row in bytes; dynamic axes count as one."""
    shapes = [(spec.datatype, [1, *(max(length, 1) for length in spec.shape[1:])]) for spec in inputs]
    return sum(fixed_size(datatype, shape) or math.prod(shape) * _TEXT_BYTES for datatype, shape in shapes)
