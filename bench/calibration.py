"""`make bench-calibration`: compares simulations with a real system on this machine, and writes docs/calibration.md.

Its autoscaler ends workers sooner than by default, so that the runs of the scenarios begin with one worker again.
"""

import argparse
import asyncio
import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.core.system import running_at
from bench.results import CALIBRATION, commit, machine, replace_table
from infaas.calibrate.calibration import CalibratedScenario, Calibration
from infaas.calibrate.session import CalibrationRequest, calibrate
from simulator.calibration.comparison import CalibratedFigure, ErrorVerdict
from simulator.figures import format_figure

TASKS: Final = ("sentiment", "mnist")
_FLAGS: Final = ("--workers=1", "--max-workers=2", "--jobs=0")
_SETTINGS: Final = {
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_S": "10",
    "INFAAS_AUTOSCALER_WORKER_DOWNSCALE_DELAY_S": "10",
    "INFAAS_AUTOSCALER_WORKER_DOWNSCALE_DELAY_STARTS": "2",
}
_VERDICTS: Final = {
    ErrorVerdict.WITHIN: "yes", ErrorVerdict.NOISE: "noise", ErrorVerdict.OFF: "**no**", ErrorVerdict.UNKNOWN: "",
}  # fmt: skip


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
        found = asyncio.run(_calibrate(asked.home or Path(folder), request))
    replace_table(CALIBRATION, "calibration", calibration_section(found, request))


async def _calibrate(home: Path, request: CalibrationRequest) -> Calibration:
    console = Console()
    async with running_at(home, "apache", *TASKS, flags=_FLAGS, env=_SETTINGS):
        return await calibrate(
            home, request, lambda done, total, name: console.log(f"{done}/{total}: {name}", highlight=False)
        )


def calibration_section(found: Calibration, request: CalibrationRequest) -> str:
    """Format the figures in Markdown."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        f"{request.repeats} real runs of {request.seconds:g} s of each scenario, {' and '.join(TASKS)} of the zoo,",
        f"one worker of one core, at most two. Commit {commit()}, {day}, {machine()}.",
        *(line for one in found.scenarios for line in _scenario_lines(one)),
    ]
    return "\n".join(lines) + "\n"


def _scenario_lines(scenario: CalibratedScenario) -> Iterator[str]:
    yield from ("", f"### {scenario.name}: {scenario.about}", "")
    yield from ("| figure | real | simulated | error | noise | within |", "|---|---:|---:|---:|---:|---|")
    yield from (_line(figure) for figure in scenario.figures)
    shares = [f"{name} {real:.0%} ({simulated:.0%})" for name, (real, simulated) in scenario.variants.items()]
    yield from ("", f"Answers by variant, simulated in brackets: {', '.join(shares)}.")


def _line(figure: CalibratedFigure) -> str:
    values = (figure.real, figure.simulated)
    cells = [
        figure.name,
        *("" if value is None else format_figure(figure.name, value) for value in values),
        *("" if share is None else f"{share:.0%}" for share in (figure.error, figure.noise)),
        _VERDICTS[figure.verdict],
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
