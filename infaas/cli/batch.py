"""`infaas batch`: a batch job over all rows of a file or a topic, within limits."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from msgspec.structs import asdict, replace
from rich.table import Table

from infaas.batch.asker import ChunkAsker, asking
from infaas.batch.job import BatchJob
from infaas.batch.limits import BatchLimits
from infaas.batch.plan import BatchNeeds, Offer, Plan, make_plan
from infaas.batch.sink import BatchTerms, Progress
from infaas.batch.sinks.checkpoint import Checkpoint
from infaas.batch.sinks.file_sink import FileSink
from infaas.batch.sinks.output_formats import output_format
from infaas.batch.source import RowSource
from infaas.batch.sources import open_source
from infaas.cli.batch_bar import BatchBar, duration
from infaas.cli.batch_offers import look_up
from infaas.cli.batch_topics import TopicsCommand, batch_topics, topics_of
from infaas.cli.connect import DEFAULT_HOME, Home, Json, find_kafka
from infaas.cli.moments import parse_duration
from infaas.cli.output import EXIT_PARTIAL, err, show, show_json, usd
from infaas.client.client import InfaasClient, QueryOptions
from schemas.errors import OperatorError

_INTERRUPTED: Final = 130

TaskOption = Annotated[str, typer.Option("--task", help="Task that computes the rows.")]
RowsIn = Annotated[
    Path,
    typer.Argument(
        metavar="IN", help="Rows: .jsonl, .csv, .npz, .parquet, a folder of files, e.g. images; or topic:NAME."
    ),
]
ResultsOut = Annotated[
    Path, typer.Argument(metavar="OUT", help="Results: .jsonl, .csv, .npz, .parquet; or topic:NAME.")
]
MinAccuracy = Annotated[float | None, typer.Option(min=0, max=1, help="Minimum accuracy, 0..1.")]
MaxLatency = Annotated[float | None, typer.Option(min=0, help="Maximum latency of the variant for one row, in ms.")]
Target = Annotated[str | None, typer.Option(help="Use only this architecture or variant.")]
Outputs = Annotated[list[str] | None, typer.Option("--output", help="Output to write; repeatable. Default: all.")]
Deadline = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Time limit, e.g. 90s, 15m, 2h30m; checked before the start."),
]
MaxCost = Annotated[
    float | None, typer.Option(min=0, help="Maximum cost of all rows in USD; checked before the start.")
]
MaxFailed = Annotated[int | None, typer.Option(min=0, help="Stop after more failed rows than this. Default: never.")]
RowsPerQuery = Annotated[int | None, typer.Option(min=1, max=4096, help="Rows in one query. Default: the fastest.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Restart = Annotated[bool, typer.Option("--restart", help="Start over instead of resuming an earlier run.")]
Mixed = Annotated[bool, typer.Option("--mixed", help="Use any variants that meet the needs, not one for all rows.")]
Estimate = Annotated[bool, typer.Option("--estimate", help="Print the estimate only.")]
Follow = Annotated[
    bool,
    typer.Option("--follow", help="Topics only: keep reading new records instead of ending."),
]
Group = Annotated[
    str,
    typer.Option(help="Topics only: consumer group, to share partitions and resume. Default: from both names."),
]
CarriedHeader = Annotated[
    list[str] | None,
    typer.Option("--header", help="Topics only: header to copy to results; repeatable. Default: all."),
]


def batch(
    rows: RowsIn,
    results: ResultsOut,
    task: TaskOption,
    min_accuracy: MinAccuracy = None,
    max_latency_ms: MaxLatency = None,
    target: Target = None,
    output: Outputs = None,
    deadline: Deadline = None,
    max_cost: MaxCost = None,
    max_failed: MaxFailed = None,
    rows_per_query: RowsPerQuery = None,
    mixed: Mixed = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    estimate: Estimate = False,
    follow: Follow = False,
    group: Group = "",
    header: CarriedHeader = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Run a task on every row of a file or a topic, on idle workers, and write the results in order.

    If the command is stopped, killed or out of time, run it again to resume. Exit code 3: done, but some rows failed;
    they are in OUT.failed.jsonl, or the topic OUT.failed, with the reasons. For topics, any number of processes may run
    the same command and share the partitions: each record is answered once, even if processes die.
    """
    needs = BatchNeeds(min_accuracy=min_accuracy, max_latency_ms=max_latency_ms, target=target)
    limits = BatchLimits(
        deadline_s=None if deadline is None else parse_duration(deadline), max_cost=max_cost, max_failed=max_failed
    )
    if topics := topics_of(rows, results):
        if overwrite or restart:
            raise OperatorError("--overwrite and --restart are for files: to read a topic again, use another --group")
        job = TopicsCommand(
            source=topics[0], sink=topics[1], home=home, task=task, needs=needs, limits=limits,
            outputs=tuple(output or ()), rows_per_query=rows_per_query, mixed=mixed, follow=follow, group=group,
            headers=tuple(header or ()),
        )  # fmt: skip
        batch_topics(job, estimate=estimate, as_json=as_json)
        return
    if follow or group or header:
        raise OperatorError("--follow, --group and --header are for topics: write IN and OUT as topic:NAME")
    _check_apart(rows, results)
    sink = FileSink(results, output_format(results), overwrite=overwrite, restart=restart)
    command = _BatchCommand(home, task, needs, limits, tuple(output or ()), rows_per_query, mixed)
    try:
        done = asyncio.run(command.run(rows, sink, estimate=estimate))
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

    def __init__(
        self, home: Path, task: str, needs: BatchNeeds, limits: BatchLimits, outputs: tuple[str, ...],
        rows_per_query: int | None, mixed: bool,
    ) -> None:  # fmt: skip
        self._home = home
        self._task = task
        self._needs = needs
        self._limits = limits
        self._outputs = outputs
        self._rows_per_query = rows_per_query
        self._mixed = mixed

    async def run(self, rows: Path, sink: FileSink, *, estimate: bool) -> Progress | None:
        """Run the job; returns its progress, None with `estimate`."""
        task, offers = await look_up(self._home, self._task)
        source = open_source(rows, task.inputs)
        left = sink.left()
        plan = self._plan(source.total, source.row_bytes(), offers, left)
        err.print(_told(plan, source.total, left), highlight=False, soft_wrap=True)
        if estimate:
            return None
        try:
            return await self._run(source, sink, self._terms(source, plan, left), plan)
        finally:
            await sink.close()

    def _plan(self, total: int | None, row_bytes: float, offers: list[Offer], left: Checkpoint | None) -> Plan:
        """Plan the remaining rows, with the variant that computed the finished ones."""
        needs, limits = self._needs, self._limits
        if left is None:
            return make_plan(total, row_bytes, offers, needs, limits)
        needs = replace(needs, target=left.terms.target or needs.target)
        if limits.max_cost is not None:
            limits = replace(limits, max_cost=limits.max_cost - left.progress.cost)
        rows = None if total is None else max(total - left.progress.rows, 0)
        return make_plan(rows, row_bytes, offers, needs, limits)

    def _terms(self, source: RowSource, plan: Plan, left: Checkpoint | None) -> BatchTerms:
        asked = {name: value for name, value in asdict(self._needs).items() if value is not None}
        needs: dict[str, str | float | bool] = asked | {"outputs": ",".join(self._outputs), "mixed": self._mixed}
        chunk_rows = self._rows_per_query or (left.terms.chunk_rows if left is not None else plan.chunk_rows)
        target = self._needs.target if self._mixed else plan.variant
        return BatchTerms(
            source=source.fingerprint(), task=self._task, needs=needs, target=target, chunk_rows=chunk_rows
        )

    async def _run(self, source: RowSource, sink: FileSink, terms: BatchTerms, plan: Plan) -> Progress:
        limits = replace(self._limits, row_cost=plan.row_cost, in_flight=plan.in_flight)
        async with InfaasClient(kafka=find_kafka(self._home)) as client:
            with BatchBar() as bar:
                asker = ChunkAsker(asking(client, self._task, self._options(terms)), on_trouble=bar.trouble)
                return await BatchJob(source, sink, terms, asker.answer, limits=limits, observer=bar).run()

    def _options(self, terms: BatchTerms) -> QueryOptions:
        options = QueryOptions()
        if self._needs.min_accuracy is not None:
            options["min_accuracy"] = self._needs.min_accuracy
        if terms.target is not None:
            options["target"] = terms.target
        if self._outputs:
            options["outputs"] = self._outputs
        return options


def _told(plan: Plan, total: int | None, left: Checkpoint | None) -> str:
    done = left.progress.rows if left is not None else 0
    rows = "rows" if total is None else f"{total - done:,} rows"
    went = f" (resumes after {done:,} rows)" if left is not None else ""
    accuracy = f"{plan.variant}, accuracy {plan.accuracy:.2%}"
    expected = "" if plan.seconds is None else f": about {duration(plan.seconds)}, {usd(plan.cost or 0)}"
    return f"{rows}{went} by {accuracy}{expected}"


def _summary(done: Progress, sink: FileSink) -> Table:
    grid = Table.grid(padding=(0, 2))
    facts: dict[str, Any] = {
        "output": sink.output,
        "rows": f"{done.rows:,}",
        "answered": f"{done.answered:,}",
        "failed": f"{done.failed:,}, in {sink.failed_rows}" if done.failed else "0",
        "took": f"{duration(done.seconds)}, {done.rows / max(done.seconds, 1e-9):,.0f} rows/s",
        "cost": f"{usd(done.cost)}",
    }
    for name, value in facts.items():
        grid.add_row(f"[bold]{name}[/]", str(value))
    return grid
