"""A workload and its system, described by few numbers: random draws, mutations, and simplifications of them."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from random import Random
from typing import Any, Final

import msgspec
from msgspec.structs import asdict, replace

from schemas.query import Mode
from simulator.catalogue import Catalogue, read_catalogue
from simulator.scenario import FaultKind, InflictedFault, Scenario
from simulator.workloads.flash_crowd import FlashCrowd
from simulator.workloads.gamma import GammaRenewal
from simulator.workloads.markov import MarkovModulated
from simulator.workloads.mix import KindTemplate, Mix
from simulator.workloads.poisson import Poisson
from simulator.workloads.workload import AnyProcess, QueryStream, Workload, generate

WARM_UP_S: Final = 60.0
SECONDS: Final = 120.0
_TASKS: Final = ("image-classification", "text-classification", "object-detection")
_HARDWARE: Final = ("cpu", "t4", "inf1")
_EACH: Final = 3
"""Of this number of variants of a task and hardware, in order of accuracy, the catalogue of the search has one."""
_NO_FAULT: Final = ""
_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "rate": (0.2, 1.0, 4.0, 10.0, 20.0, 40.0, 80.0),
    "arrivals": ("poisson", "gamma", "markov", "flash-crowd"),
    "burst": (2.0, 4.0, 8.0, 16.0),
    "period_s": (1.0, 3.0, 10.0, 30.0),
    "tasks": (1, 2, 3),
    "latency_ms": (20.0, 40.0, 80.0, 200.0, 1000.0, 5000.0),
    "accuracy": (0.0, 0.3, 0.6, 0.9),
    "strict_share": (0.0, 0.1, 0.5),
    "offline_share": (0.0, 0.2, 0.8),
    "patient_share": (0.0, 0.1, 0.5),
    "tenants": (1, 2, 4),
    "batch": (1, 4, 16, 64),
    "large_share": (0.0, 0.05, 0.5),
    "selectors": (1, 2, 8),
    "gateways": (0, 1, 3),
    "fault": (_NO_FAULT, *map(str, FaultKind)),
    "most_workers": (1, 2, 4, 20),
    "hardware": ("all", "cpu"),
    "seed": tuple(range(8)),
}
"""Values of each field; the default of the field is among them."""


class SearchCase(msgspec.Struct, frozen=True, kw_only=True):
    """One workload and system. The defaults are harmless."""

    rate: float = 20.0
    """Mean queries a second."""
    arrivals: str = "poisson"
    burst: float = 4.0
    """Coefficient of variation (gamma), or factor between the rates of a burst and of the rest."""
    period_s: float = 10.0
    """Mean length of a burst."""
    tasks: int = 1
    latency_ms: float = 200.0
    accuracy: float = 0.0
    """Needed accuracy, from the lowest (0) to the highest (1) of the task."""
    strict_share: float = 0.0
    """Share of queries with the highest accuracy but one as their need, and four times the latency."""
    offline_share: float = 0.0
    patient_share: float = 0.0
    """Share of online queries without a deadline."""
    tenants: int = 1
    batch: int = 1
    large_share: float = 0.0
    """Share of the queries with `batch` inputs; the others have one."""
    selectors: int = 1
    gateways: int = 0
    fault: str = _NO_FAULT
    most_workers: int = 20
    """Maximum number of workers of each hardware."""
    hardware: str = "all"
    seed: int = 0

    def changes(self) -> dict[str, Any]:
        """Return the fields that differ from the defaults."""
        plain = asdict(SearchCase())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}

    def scenario(self) -> Scenario:
        """Return the scenario of the case."""
        hardware = _HARDWARE if self.hardware == "all" else (self.hardware,)
        fault = ()
        if self.fault:
            kind = FaultKind(self.fault)
            fault = (InflictedFault(kind=kind, at_s=WARM_UP_S + 10.0, seconds=10.0),)
        return Scenario(
            trace=generate(self._workload(), self.seed),
            catalogue=search_catalogue().of_hardware(hardware).bounded(dict.fromkeys(hardware, self.most_workers)),
            fleet={"inf1" if self.hardware == "all" else self.hardware: 1},
            selectors=self.selectors,
            gateways=self.gateways,
            faults=fault,
            warm_up_s=WARM_UP_S,
            seed=self.seed,
        )

    def _workload(self) -> Workload:
        streams = [
            QueryStream(arrivals=self._arrivals(rate), seconds=SECONDS, mix=Mix(kinds=tuple(self._kinds(task))))
            for task, rate in zip(_TASKS, _zipf(self.rate, self.tasks), strict=False)
        ]
        return Workload(streams=tuple(streams))

    def _arrivals(self, rate: float) -> AnyProcess:
        match self.arrivals:
            case "gamma":
                return GammaRenewal(rate=rate, cv=self.burst)
            case "markov":
                low = rate * 5 / (4 + self.burst)
                return MarkovModulated(rates=(low, low * self.burst), means=(4 * self.period_s, self.period_s))
            case "flash-crowd":
                return FlashCrowd(rate=rate, factor=self.burst, at=WARM_UP_S + 15.0, hold=self.period_s)
            case _:
                return Poisson(rate=rate)

    def _kinds(self, task: str) -> Iterator[KindTemplate]:
        accuracies = sorted({one.accuracy for one in search_catalogue().variants if one.task == task})
        sizes = ((1, 1.0 - self.large_share), (self.batch, self.large_share))
        needs = ((self.accuracy, 1.0, 1.0 - self.strict_share), (0.9, 4.0, self.strict_share))
        modes = (
            (Mode.ONLINE, True, (1.0 - self.offline_share) * (1.0 - self.patient_share)),
            (Mode.ONLINE, False, (1.0 - self.offline_share) * self.patient_share),
            (Mode.OFFLINE, False, self.offline_share),
        )
        for (size, sized), (rank, slower, needed), (mode, is_timed, meant) in product(sizes, needs, modes):
            share = sized * needed * meant
            if share <= 0.0:
                continue
            for number in range(self.tenants):
                yield KindTemplate(
                    task=task,
                    latency_ms=self.latency_ms * slower if is_timed else None,
                    min_accuracy=accuracies[int(rank * (len(accuracies) - 1))] if rank else None,
                    batch=size,
                    tenant=f"tenant{number}" if self.tenants > 1 else None,
                    mode=mode,
                    weight=share / 10**number,
                )


def _zipf(rate: float, count: int) -> list[float]:
    total = sum(1 / rank for rank in range(1, count + 1))
    return [rate / rank / total for rank in range(1, count + 1)]


@cache
def search_catalogue() -> Catalogue:
    """Return a part of the shipped catalogue, for which the solver is fast."""
    whole = read_catalogue("infaas-44x270")
    kept: list[str] = []
    for task, hardware in product(_TASKS, _HARDWARE):
        found = [one for one in whole.variants if (one.task, one.hardware) == (task, hardware)]
        found.sort(key=lambda one: (one.accuracy, one.name))
        kept += [one.name for one in found[::-1][::_EACH]]
    found = whole.of_hardware(_HARDWARE)
    return replace(found, variants=tuple(one for one in found.variants if one.name in kept))


def draw_case(random: Random) -> SearchCase:
    """Draw a case: about half of its fields differ from the defaults."""
    changed = {name: random.choice(values) for name, values in _VALUES.items() if random.random() < 0.5}
    return SearchCase(**changed)


def mutate(case: SearchCase, random: Random) -> SearchCase:
    """Return the case with one to three other values."""
    names = random.sample(sorted(_VALUES), random.randint(1, 3))
    return replace(case, **{name: random.choice(_VALUES[name]) for name in names})


def simpler(case: SearchCase) -> Iterator[SearchCase]:
    """Yield the case with one field less that differs from the defaults, each in turn."""
    plain = SearchCase()
    for name in case.changes():
        yield replace(case, **{name: getattr(plain, name)})
