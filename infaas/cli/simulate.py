"""`infaas simulate`: a scenario in virtual time, its figures as a table and in a folder.

Exit codes: 0, or 1 if `--attainment` is missed, or 2 for invalid input.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from infaas.cli.connect import Json
from infaas.cli.options import RequestOptions, with_options
from infaas.cli.output import CommandGroup, ProgressBar, err, show, show_json, table
from infaas.cli.simulate_compare import compare
from infaas.cli.simulate_errors import EXIT_MISSED, invalid_input, solver_silenced
from infaas.cli.simulate_flags import ScenarioFlags
from schemas.errors import OperatorError
from simulator.figures import MeanFigure, format_figure
from simulator.regret import regret_rows
from simulator.replications import replicate
from simulator.report.drawing import check_matplotlib, draw_image
from simulator.report.folder import REPORT_FILE, write_folder
from simulator.report.panels import report_panels
from simulator.report.regret_table import COLUMNS, NUMBERS, regret_cells
from simulator.run_record import RunRecord, record_run
from simulator.trace_columns import import_pyarrow

app = typer.Typer(cls=CommandGroup)
app.command()(compare)

Attainment = Annotated[
    float | None, typer.Option(min=0, max=1, help="Objective: share of online queries that are answered in time.")
]


@app.callback(invoke_without_command=True)
@with_options
def simulate(
    context: typer.Context,
    options: RequestOptions[ScenarioFlags],
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of seeds; the table shows means and deviations.")
    ] = 1,
    attainment: Attainment = None,
    output: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write run.json and report.html to this folder.")
    ] = None,
    save_queries: Annotated[
        bool, typer.Option("--save-queries", help="Write queries.parquet to the folder, too.")
    ] = False,
    image: Annotated[
        Path | None, typer.Option("--image", dir_okay=False, help="Write the plots to an image file, e.g. run.png.")
    ] = None,
    regret: Annotated[
        bool, typer.Option("--regret", help="Show choices that an oracle, who knows the trace, makes differently.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Simulate the system under a load, and print attainment, latencies, accuracy and cost.

    Exit code 1: the attainment is below --attainment. Exit code 2: an option or a file is invalid.
    """
    if context.invoked_subcommand is not None:
        return
    with invalid_input():
        _check_output(output, image, queries=save_queries)
        document, scenario = options.request().read()
        numbers = range(scenario.seed, scenario.seed + seeds)
        with solver_silenced(), ProgressBar() as bar:
            found = replicate(scenario, numbers, bar.step)
            regretted = regret_rows(found.first) if regret else ()
        record = record_run(document, found)
        if output is not None:
            written = write_folder(output, record, found.first, regret=regretted, queries=save_queries)
            err.print(f"wrote {', '.join(written)} to {output}", highlight=False, soft_wrap=True)
            if REPORT_FILE not in written:
                err.print("no report without matplotlib: pip install 'infaas\\[plots]'", highlight=False)
        if image is not None:
            draw_image(report_panels(found.first), image, found.first.scenario.warm_up_s)
    if as_json:
        show_json(record)
    else:
        show(figures_table(record))
        if regret:
            columns = [f"{name}>" if place in NUMBERS else name for place, name in enumerate(COLUMNS)]
            show(table(columns, list(regret_cells(regretted)), title=f"regret of seed {scenario.seed}"))
    reached = record.figures()["attainment"].mean
    if attainment is not None and reached < attainment:
        err.print(f"attainment {reached:.4f} is below the objective of {attainment:g}", highlight=False)
        raise typer.Exit(EXIT_MISSED)


def _check_output(folder: Path | None, image: Path | None, *, queries: bool) -> None:
    """Raise the errors that would otherwise end a long run."""
    if queries:
        if folder is None:
            raise OperatorError("--save-queries needs the folder of --output")
        import_pyarrow(folder)
    if image is not None:
        check_matplotlib()


def figures_table(record: RunRecord) -> Table:
    """Return the figures of a run; with several seeds, means and sample standard deviations."""
    columns = ("figure", "mean>", "deviation>") if len(record.seeds) > 1 else ("figure", "value>")
    rows = [_row(name, figure)[: len(columns)] for name, figure in record.figures().items()]
    return table(columns, rows, title=f"{record.system}, seeds {', '.join(record.seeds)}")


def _row(name: str, figure: MeanFigure) -> Sequence[str]:
    return name, format_figure(name, figure.mean), f"±{format_figure(name, figure.spread)}"
