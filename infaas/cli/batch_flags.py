"""Flags of `infaas batch`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from infaas.batch.limits import BatchLimits
from infaas.batch.plan import BatchNeeds, Plan
from infaas.cli.moments import parse_duration
from infaas.cli.parameters import ParametersFlag, read_parameters
from infaas.client.client import QueryOptions
from schemas.errors import InvalidRequest
from schemas.generation_options import read_options
from schemas.query_names import Parameter
from schemas.rows.catalog import Task


class BatchFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of `infaas batch`."""

    rows: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Rows: .jsonl, .csv, .npz, .parquet, a folder of files, e.g. images; or topic:NAME."
        ),
    ]
    results: Annotated[
        Path, typer.Argument(metavar="OUT", help="Results: .jsonl, .csv, .npz, .parquet; or topic:NAME.")
    ]
    task: Annotated[str, typer.Option("--task", help="Task that computes the rows.")]
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Minimum accuracy, 0..1.")] = None
    max_latency_ms: Annotated[
        float | None, typer.Option(min=0, help="Maximum latency of the variant for one row, in ms.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Generative tasks: tokens of each answer. Default: until it ends.")
    ] = None
    parameters: ParametersFlag = None
    target: Annotated[str | None, typer.Option(help="Use only this architecture or variant.")] = None
    output: Annotated[list[str] | None, typer.Option("--output", help="Output to write; repeatable. Default: all.")] = (
        None
    )
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time limit, e.g. 90s, 15m, 2h30m; checked before the start."),
    ] = None
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Maximum cost of all rows in USD; checked before the start.")
    ] = None
    max_failed: Annotated[
        int | None, typer.Option(min=0, help="Stop after more failed rows than this. Default: never.")
    ] = None
    rows_per_query: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Rows in one query. Default: the fastest.")
    ] = None
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Use any variants that meet the needs, not one for all rows.")
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False
    restart: Annotated[bool, typer.Option("--restart", help="Start over instead of resuming an earlier run.")] = False
    estimate: Annotated[bool, typer.Option("--estimate", help="Print the estimate only.")] = False
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Topics only: keep reading new records instead of ending."),
    ] = False
    group: Annotated[
        str,
        typer.Option(help="Topics only: consumer group, to share partitions and resume. Default: from both names."),
    ] = ""
    header: Annotated[
        list[str] | None,
        typer.Option("--header", help="Topics only: header to copy to results; repeatable. Default: all."),
    ] = None
    answer_only: Annotated[
        bool, typer.Option("--answer-only", help="Topics only: write the answer to a row without the row's fields.")
    ] = False

    @property
    def needs(self) -> BatchNeeds:
        """Needs of every row."""
        return BatchNeeds(
            min_accuracy=self.min_accuracy,
            max_latency_ms=self.max_latency_ms,
            max_tokens=self.max_tokens,
            target=self.target,
        )

    @property
    def limits(self) -> BatchLimits:
        """Limits of the job.

        Raises:
            OperatorError: the deadline is not a duration.
        """
        deadline_s = None if self.deadline is None else parse_duration(self.deadline)
        return BatchLimits(deadline_s=deadline_s, max_cost=self.max_cost, max_failed=self.max_failed)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Outputs to write; empty: all."""
        return tuple(self.output or ())

    @property
    def model_parameters(self) -> dict[str, Parameter]:
        """Parameters of the model by name.

        Raises:
            InvalidRequest: one is not written as NAME=VALUE.
        """
        return read_parameters(self.parameters or ())

    def check(self, task: Task) -> None:
        """Check the options of generated text before the first row: a wrong one would fail every row.

        Raises:
            InvalidRequest: the task makes no texts, or an option is unknown or out of range.
        """
        if task.is_generative:
            read_options(self.model_parameters)
        elif self.max_tokens is not None:
            raise InvalidRequest(f"--max-tokens: {task.name} is not generative, its answers have no tokens")

    def target_of(self, plan: Plan) -> str | None:
        """Return the architecture or variant that computes the rows; None: any that meets the needs."""
        return self.target if self.mixed else plan.variant

    def query_options(self, target: str | None) -> QueryOptions:
        """Return the options of the queries."""
        options = QueryOptions()
        if self.min_accuracy is not None:
            options["min_accuracy"] = self.min_accuracy
        if self.max_tokens is not None:
            options["max_tokens"] = self.max_tokens
        if self.parameters:
            options["parameters"] = self.model_parameters
        if target is not None:
            options["target"] = target
        if self.outputs:
            options["outputs"] = self.outputs
        return options
