"""`infaas batch`: a batch job over all rows of a file or a topic, within limits."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import typer
from msgspec.structs import asdict, replace
from rich.table import Table

from infaas.batch.asker import ChunkAsker, asking
from infaas.batch.file_sink import Checkpoint, FileSink
from infaas.batch.formats import open_source, output_format
from infaas.batch.job import BatchJob
from infaas.batch.plan import Offer, Plan, make_plan
from infaas.batch.rows import RowSource
from infaas.batch.sink import BatchTerms, Progress
from infaas.cli.batch_bar import BatchBar
from infaas.cli.batch_flags import BatchFlags
from infaas.cli.batch_topics import TopicsCommand, batch_topics, look_up, topics_of
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_kafka
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import EXIT_PARTIAL, duration, err, facts, show, show_json
from infaas.client.client import InfaasClient
from schemas.errors import OperatorError
from schemas.hardware import usd

_INTERRUPTED: Final = 130


@with_options
def batch(
    options: RequestOptions[BatchFlags],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Run a task on every row of a file or a topic, on idle workers, and write the results in order.

    If the command is stopped, killed or out of time, run it again to resume. Exit code 3: done, but some rows failed;
    they are in OUT.failed.jsonl, or the topic OUT.failed, with the reasons. For topics, any number of processes may run
    the same command and share the partitions: each record is answered once, even if processes die.
    """
    flags = options.request()
    if topics := topics_of(flags.rows, flags.results):
        if flags.overwrite or flags.restart:
            raise OperatorError("--overwrite and --restart are for files: to read a topic again, use another --group")
        batch_topics(TopicsCommand(source=topics[0], sink=topics[1], home=home, flags=flags), as_json=as_json)
        return
    if flags.follow or flags.group or flags.header or flags.answer_only:
        raise OperatorError(
            "--follow, --group, --header and --answer-only are for topics: write IN and OUT as topic:NAME"
        )
    _check_apart(flags.rows, flags.results)
    sink = FileSink(flags.results, output_format(flags.results), overwrite=flags.overwrite, restart=flags.restart)
    try:
        done = asyncio.run(_BatchCommand(home, flags).run(sink))
    except KeyboardInterrupt:
        err.print("stopped; run the same command to resume")
        raise typer.Exit(_INTERRUPTED) from None
    if done is None:
        return
    if as_json:
        show_json(asdict(done) | {"output": str(sink.output), "failed_rows": str(sink.failed_rows)})
    else:
        show(_summary(done, sink))
    if done.failed:
        raise typer.Exit(EXIT_PARTIAL)


def _check_apart(rows: Path, results: Path) -> None:
    if rows.is_dir() and results.resolve().is_relative_to(rows.resolve()):
        raise OperatorError(f"{results} is inside {rows}, so it would be read as input: choose a file elsewhere")


class _BatchCommand:
    """A batch job as described by the command line."""

    def __init__(self, home: Path, flags: BatchFlags) -> None:
        self._home = home
        self._flags = flags
        self._limits = flags.limits

    async def run(self, sink: FileSink) -> Progress | None:
        """Run the job; returns its progress, None with `--estimate`."""
        task, offers = await look_up(self._home, self._flags)
        source = open_source(self._flags.rows, task.inputs)
        left = sink.left()
        plan = self._plan(source.total, source.row_bytes(), offers, left)
        err.print(_told(plan, source.total, left), highlight=False, soft_wrap=True)
        if self._flags.estimate:
            return None
        try:
            return await self._run(source, sink, self._terms(source, plan, left), plan)
        finally:
            await sink.close()

    def _plan(self, total: int | None, row_bytes: float, offers: list[Offer], left: Checkpoint | None) -> Plan:
        """Plan the remaining rows, with the variant that computed the finished ones."""
        needs, limits = self._flags.needs, self._limits
        if left is None:
            return make_plan(total, row_bytes, offers, needs, limits)
        needs = replace(needs, target=left.terms.target or needs.target)
        if limits.max_cost is not None:
            limits = replace(limits, max_cost=limits.max_cost - left.progress.cost)
        rows = None if total is None else max(total - left.progress.rows, 0)
        return make_plan(rows, row_bytes, offers, needs, limits)

    def _terms(self, source: RowSource, plan: Plan, left: Checkpoint | None) -> BatchTerms:
        flags = self._flags
        asked = {name: value for name, value in asdict(flags.needs).items() if value is not None}
        if parameters := flags.model_parameters:
            asked["parameters"] = msgspec.json.encode(parameters, order="sorted").decode()
        return BatchTerms(
            source=source.fingerprint(),
            task=flags.task,
            needs=asked | {"outputs": ",".join(flags.outputs), "mixed": flags.mixed},
            target=flags.target_of(plan),
            chunk_rows=flags.rows_per_query or (left.terms.chunk_rows if left is not None else plan.chunk_rows),
        )

    async def _run(self, source: RowSource, sink: FileSink, terms: BatchTerms, plan: Plan) -> Progress:
        limits = replace(self._limits, row_cost=plan.row_cost, in_flight=plan.in_flight)
        async with InfaasClient(kafka=find_kafka(self._home)) as client:
            with BatchBar() as bar:
                asker = ChunkAsker(
                    asking(client, self._flags.task, self._flags.query_options(terms.target)), on_trouble=bar.trouble
                )
                return await BatchJob(source, sink, terms, asker.answer, limits=limits, observer=bar).run()


def _told(plan: Plan, total: int | None, left: Checkpoint | None) -> str:
    done = left.progress.rows if left is not None else 0
    rows = "rows" if total is None else f"{total - done:,} rows"
    went = f" (resumes after {done:,} rows)" if left is not None else ""
    accuracy = f"{plan.variant}, accuracy {plan.accuracy:.2%}"
    expected = "" if plan.seconds is None else f": about {duration(plan.seconds)}, {usd(plan.cost or 0)}"
    return f"{rows}{went} by {accuracy}{expected}"


def _summary(done: Progress, sink: FileSink) -> Table:
    found = {
        "output": sink.output,
        "rows": f"{done.rows:,}",
        "answered": f"{done.answered:,}",
        "failed": f"{done.failed:,}, in {sink.failed_rows}" if done.failed else "0",
        "took": f"{duration(done.seconds)}, {done.rows / max(done.seconds, 1e-9):,.0f} rows/s",
        "cost": f"{usd(done.cost)}",
    }
    return facts(found.items())
