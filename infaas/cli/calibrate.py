"""`infaas calibrate`: the same traces on the running system and in simulations, and the errors of the simulations.

Exit codes: 0, or 1 if an error exceeds its goal and the noise of the real runs, or 2 for invalid input.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from infaas.calibrate.calibration import CalibratedScenario, Calibration, compare_all
from infaas.calibrate.session import PROBE_S, CalibrationRequest, play
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.output import ProgressBar, err, show, show_json, table
from infaas.cli.simulate_errors import EXIT_MISSED, invalid_input, solver_silenced
from infaas.cli.simulate_flags import parse_pairs
from schemas.errors import OperatorError
from simulator.calibration.comparison import CalibratedFigure, ErrorVerdict
from simulator.figures import format_figure
from simulator.trace import read_trace

_QUICK_S = 10.0


def calibrate(
    scenarios: Annotated[
        list[str] | None, typer.Argument(help="Names of scenarios, e.g. busy overload; default: all.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Play this trace in place of the scenarios, e.g. one of `infaas record`.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Query only this task. Repeatable.")] = None,
    seconds: Annotated[float, typer.Option(min=5, help="Duration of each scenario.")] = 40.0,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Real runs of each scenario.")] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"One run of {_QUICK_S:g} s of each scenario, without noise.")
    ] = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            help="File with inputs of a task; default: of the zoo, or random. Repeatable.", metavar="TASK=FILE"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a field of the simulated scenarios, e.g. selectors=2.", metavar="FIELD=VALUE"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write what was measured as a scenario file, for `simulate`.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Play traces on the running system, simulate the same traces, and print the errors of the simulations.

    The rates follow from the profiles of the registered models. The system should have no other load meanwhile. Exit
    code 1: an error exceeds its goal and the noise between the real runs. Exit code 2: an option or a file is invalid.
    """
    with invalid_input():
        request = CalibrationRequest(
            scenarios=tuple(scenarios or ()),
            trace=None if trace is None else read_trace(trace),
            tasks=tuple(task or ()),
            seconds=_QUICK_S if quick else seconds,
            probe_s=_QUICK_S if quick else min(seconds, PROBE_S),
            repeats=1 if quick else repeats,
            inputs=dict(_parse_file(text) for text in inputs or ()),
            settings={path: value for text in settings or () for path, value in parse_pairs(text, single=True).items()},
        )
        with solver_silenced(), ProgressBar() as bar:
            found = compare_all(asyncio.run(play(home, request, bar.step)))
        if output is not None:
            output.write_bytes(found.measured.scenario_file())
    if as_json:
        show_json(found)
    else:
        show(calibration_table(found))
        for name, reason in found.skipped.items():
            err.print(f"skipped {name}: {reason}", highlight=False)
    if any(one.is_off for one in found.scenarios):
        raise typer.Exit(EXIT_MISSED)


def calibration_table(found: Calibration) -> Table:
    """Return all figures of a calibration."""
    columns = ("scenario", "figure", "real>", "simulated>", "error>", "noise>", "verdict")
    return table(columns, (row for one in found.scenarios for row in _rows(one)))


def _rows(scenario: CalibratedScenario) -> Iterator[tuple[str, ...]]:
    for number, figure in enumerate(scenario.figures):
        yield ("" if number else scenario.name, *_cells(figure))


def _cells(figure: CalibratedFigure) -> tuple[str, ...]:
    values = (figure.real, figure.simulated)
    return (
        figure.name,
        *("-" if value is None else format_figure(figure.name, value) for value in values),
        *("-" if share is None else f"{share:.1%}" for share in (figure.error, figure.noise)),
        figure.verdict if figure.verdict is not ErrorVerdict.OFF else figure.verdict.upper(),
    )


def _parse_file(text: str) -> tuple[str, Path]:
    task, sign, file = text.partition("=")
    if not sign or not file:
        raise OperatorError(f"--inputs {text}: write TASK=FILE")
    return task, Path(file)
