"""Calibration: all real runs, then all simulations, and the comparison of each scenario.

The simulations follow the real runs, so that they do not take CPU time of the system. The first real run is a probe,
whose delays become settings of the simulations. It is none of the compared scenarios: it has other arrivals.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from infaas.calibrate.real_system import RealRun, RealSystem
from simulator.calibration.comparison import CalibratedFigure, ErrorVerdict, compare_summaries
from simulator.calibration.measured_settings import MeasuredSettings, fit_delays, fit_machine, fit_start, worker_start_s
from simulator.calibration.scenarios import CalibrationScenario
from simulator.outcomes import QueryOutcome
from simulator.simulation import SimulationResult, simulate
from simulator.summary import Summary, summarize

_SHOWN: Final = 0.01
"""Least share of the answers of a variant that is shown."""
Progress = Callable[[int, int, str], None]
"""Called with the finished runs, all runs, and the current run."""


class CalibratedScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a scenario in all real and all simulated runs, and their comparison."""

    name: str
    about: str
    queries: int
    real: list[Summary]
    simulated: list[Summary]
    figures: tuple[CalibratedFigure, ...]
    variants: dict[str, tuple[float, float]]
    """Real and simulated share of the answers, by variant."""
    send_delay_p99_ms: float
    """99th percentile of the delay with which this program sent the queries."""

    @property
    def is_off(self) -> bool:
        """True if an error exceeds its goal and the noise."""
        return any(figure.verdict is ErrorVerdict.OFF for figure in self.figures)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a calibration."""

    scenarios: tuple[CalibratedScenario, ...]
    measured: MeasuredSettings
    """Settings of all simulations."""
    skipped: dict[str, str]
    """Reasons of scenarios that were not played, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRuns:
    """All real runs of a calibration."""

    probe: RealRun
    scenarios: Sequence[CalibrationScenario]
    """Scenarios that were played."""
    runs: Mapping[str, Sequence[RealRun]]
    """Runs of each scenario, by its name."""
    skipped: dict[str, str]
    """Reasons of scenarios that were not played, by name."""


async def play_all(
    system: RealSystem, probe: CalibrationScenario, scenarios: Sequence[CalibrationScenario], repeats: int,
    progress: Progress,
) -> tuple[RealRun, dict[str, list[RealRun]]]:  # fmt: skip
    """Play the probe, and all scenarios in turn, as often as wanted; return the runs by scenario.

    Raises:
        Exception: as `RealSystem.play`.
    """
    runs: dict[str, list[RealRun]] = {one.name: [] for one in scenarios}
    total, done = len(scenarios) * repeats + 1, 1
    progress(0, total, probe.name)
    probed = await system.play(probe)
    for _ in range(repeats):
        for scenario in scenarios:
            progress(done, total, scenario.name)
            runs[scenario.name].append(await system.play(scenario))
            done += 1
    progress(done, total, "simulations")
    return probed, runs


def compare_all(real: RealRuns) -> Calibration:
    """Simulate each real run with what was measured, and compare the figures; it takes seconds of CPU time."""
    times, probe = real.probe.played.times, real.probe.result
    started_s = [s for runs in real.runs.values() for run in runs for s in worker_start_s(run.result.changes)]
    measured = MeasuredSettings(
        delays=fit_delays(times, probe.scenario.delays),
        machine=real.probe.use and fit_machine(times, len(probe.scenario.trace), probe.wall_s, real.probe.use),
        start=fit_start(started_s, probe.scenario),
    )
    compared = tuple(_compare(one, real.runs[one.name], measured) for one in real.scenarios)
    return Calibration(scenarios=compared, measured=measured, skipped=real.skipped)


def _compare(scenario: CalibrationScenario, runs: Sequence[RealRun], measured: MeasuredSettings) -> CalibratedScenario:
    simulated = [simulate(measured.apply(run.result.scenario, seed)) for seed, run in enumerate(runs)]
    real = [run.result for run in runs]
    summaries, of_simulations = [summarize(one) for one in real], [summarize(one) for one in simulated]
    delayed_s = np.concatenate([run.played.send_delay_s for run in runs])
    return CalibratedScenario(
        name=scenario.name,
        about=scenario.about,
        queries=len(scenario.trace),
        real=summaries,
        simulated=of_simulations,
        figures=compare_summaries(summaries, of_simulations),
        variants=dict(_shares(real, simulated)),
        send_delay_p99_ms=float(np.percentile(delayed_s, 99)) * 1e3,
    )


def _shares(
    real: Sequence[SimulationResult], simulated: Sequence[SimulationResult]
) -> Iterator[tuple[str, tuple[float, float]]]:
    names = [variant.name for variant in real[0].scenario.catalogue.variants]
    counts = [sum((_answers(one) for one in results), Counter[int]()) for results in (real, simulated)]
    for number in sorted(counts[0].keys() | counts[1].keys()):
        here, there = (count[number] / max(count.total(), 1) for count in counts)
        if max(here, there) >= _SHOWN:
            yield names[number], (here, there)


def _answers(result: SimulationResult) -> Counter[int]:
    answered = np.isin(result.queries.outcome, (QueryOutcome.ANSWERED, QueryOutcome.LATE))
    numbers: list[int] = result.queries.variant[answered].tolist()
    return Counter(numbers)
