"""Calibration: all real runs, then all simulations, and the comparison of each scenario.

The simulations follow the real runs, so that they do not take CPU time of the system. The first real run is a probe,
whose delays become settings of the simulations. It is none of the compared scenarios: it has other arrivals.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from infaas.calibrate.real_system import RealRun, RealSystem
from simulator.calibration.comparison import CalibratedFigure, ErrorVerdict, compare_summaries
from simulator.calibration.measured_delays import fit_delays
from simulator.calibration.scenarios import CalibrationScenario
from simulator.outcomes import QueryOutcome
from simulator.scenario import Delays
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
    delays: Delays
    """Delays of the simulations."""
    skipped: dict[str, str]
    """Reasons of scenarios that were not played, by name."""

    def settings_file(self) -> bytes:
        """Return a scenario file with the delays, for `infaas simulate --scenario`."""
        return msgspec.json.format(msgspec.json.encode({"delays": self.delays}), indent=2) + b"\n"


async def play_all(
    system: RealSystem, probe: CalibrationScenario, scenarios: Sequence[CalibrationScenario], repeats: int,
    progress: Progress,
) -> tuple[RealRun, dict[str, list[RealRun]]]:  # fmt: skip
    """Play the probe, and all scenarios in turn, as often as wanted; return the runs by scenario.

    Raises:
        OperatorError: a fault cannot be inflicted.
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


def compare_all(
    probed: RealRun, scenarios: Sequence[CalibrationScenario], runs: dict[str, list[RealRun]], skipped: dict[str, str]
) -> Calibration:
    """Simulate each real run with the delays of the probe, and compare the figures."""
    delays = fit_delays(probed.played.times, probed.result.scenario.delays)
    compared = tuple(_compare(one, runs[one.name], delays) for one in scenarios)
    return Calibration(scenarios=compared, delays=delays, skipped=skipped)


def _compare(scenario: CalibrationScenario, runs: Sequence[RealRun], delays: Delays) -> CalibratedScenario:
    simulated = [simulate(replace(run.result.scenario, delays=delays, seed=seed)) for seed, run in enumerate(runs)]
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
