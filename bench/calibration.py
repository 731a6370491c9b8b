"""`make bench-calibration`: compares simulations with a real system on this machine, and writes docs/calibration.md.

Its autoscaler ends workers sooner than by default, so that the runs of the scenarios begin with one worker again.
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.core.system import running_at
from bench.markdown import plot_link, table
from bench.page_plots import draw
from bench.results import CALIBRATION, origin, replace_table
from infaas.calibrate.calibration import CalibratedScenario, Calibration, RealRuns, compare_all
from infaas.calibrate.session import CalibrationRequest, play
from simulator.calibration.comparison import CalibratedFigure, ErrorVerdict
from simulator.calibration.measured_settings import MeasuredSettings
from simulator.figures import format_figure

TASKS: Final = ("sentiment", "mnist")
_FLAGS: Final = ("--workers=1", "--max-workers=2", "--jobs=0")
_SETTINGS: Final = {
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_S": "10",
    "INFAAS_AUTOSCALER_WORKER_DOWNSCALE_DELAY_STARTS": "2",
}


def main() -> None:
    """Calibrate with the scenarios that the arguments name, or all."""
    parser = argparse.ArgumentParser(prog="bench.calibration", description=__doc__)
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--home", type=Path, help="folder of the system, kept with its registrations")
    asked = parser.parse_args()
    request = CalibrationRequest(scenarios=tuple(asked.scenarios), seconds=asked.seconds, repeats=asked.repeats)
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        found = compare_all(asyncio.run(_play(asked.home or Path(folder), request)))
    replace_table(CALIBRATION, "calibration", calibration_section(found, request))
    draw(CALIBRATION)


async def _play(home: Path, request: CalibrationRequest) -> RealRuns:
    console = Console()
    async with running_at(home, "apache", *TASKS, flags=_FLAGS, env=_SETTINGS):
        return await play(
            home, request, lambda done, total, name: console.log(f"{done}/{total}: {name}", highlight=False)
        )


def calibration_section(found: Calibration, request: CalibrationRequest) -> str:
    """Format the figures in Markdown."""
    figures = [figure for scenario in found.scenarios for figure in scenario.figures]
    names = [figure.name for figure in found.scenarios[0].figures]
    verdicts = Counter(figure.verdict for figure in figures)
    lines = [
        f"{request.repeats} real runs of {request.seconds:g} s of each scenario, {' and '.join(TASKS)} of the zoo,",
        f"one worker of one core, at most two. Commit {origin()}.",
        "",
        f"Of {len(figures)} figures, {verdicts[ErrorVerdict.WITHIN]} are within the goal,",
        f"{verdicts[ErrorVerdict.NOISE]} others within the noise, and {verdicts[ErrorVerdict.OFF]} off (in bold).",
        "A cell holds the real and the simulated mean, and in brackets the error and the noise of the real runs.",
        "The figure shows the errors, with the goals as dashed lines; the bold ones are red.",
        "",
        plot_link(CALIBRATION, "Errors of the simulated figures by scenario, with the goals as dashed lines"),
        "",
        *table(["scenario", *names], "l" + "r" * len(names), map(_row, found.scenarios)),
        "",
        *_measured(found.measured),
    ]
    return "\n".join(lines) + "\n"


def _row(scenario: CalibratedScenario) -> list[str]:
    return [f"`{scenario.name}`", *map(_cell, scenario.figures)]


def _cell(figure: CalibratedFigure) -> str:
    values = [figure.real, figure.simulated]
    real, simulated = ("-" if value is None else format_figure(figure.name, value) for value in values)
    shares = ["-" if share is None else f"{share:.0%}" for share in (figure.error, figure.noise)]
    mark = "**" if figure.verdict is ErrorVerdict.OFF else ""
    return f"{mark}{real}, {simulated} ({', '.join(shares)}){mark}"


def _measured(measured: MeasuredSettings) -> list[str]:
    delays = measured.delays
    hops = {"to a selector": delays.to_selector, "to a worker": delays.to_worker, "of a result": delays.result}
    texts = [f"{name} {1e3 * one.p50_s:.1f} ms (p99 {1e3 * one.p99_s:.1f} ms)" for name, one in hops.items()]
    lines = [f"Measured delays: {', '.join(texts)}."]
    if measured.machine is not None:
        lines.append(
            f"A query takes {1e3 * measured.machine.query_cpu_s:.1f} ms of CPU time besides its computation; other "
            f"programs use {measured.machine.other_cpu:.0%} of the machine."
        )
    return lines


if __name__ == "__main__":
    main()
