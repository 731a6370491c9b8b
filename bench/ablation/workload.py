"""A workload of the ablation: a scenario that produces a situation which some mechanisms were made for."""

from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from bench.ablation.mechanism import Area
from simulator.catalogue import Catalogue
from simulator.scenario import Scenario
from simulator.scenario_file import convert_scenario

IMAGES: Final = "image-classification"
ARCHITECTURES: Final = frozenset(
    {"mobilenet-v2", "efficientnet-b0", "efficientnet-b4", "resnet50", "regnet-y-3-2gf", "bert-mini", "distilbert"}
)  # fmt: skip
FLOOD: Final = [
    {"task": IMAGES, "min_accuracy": 0.80, "weight": 3, "mode": "offline", "latency_ms": None, "tenant": "globex"}
]
"""Offline queries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationWorkload:
    """Scenario of the ablation, and the areas whose mechanisms it may need."""

    name: str
    areas: frozenset[Area]
    document: dict[str, Any]
    """Scenario file without a seed."""
    hardware: dict[str, dict[str, Any]] = field(default_factory=lambda: {"cpu": {}})
    """Hardware of the catalogue that is used, with changed fields."""
    architectures: frozenset[str] = ARCHITECTURES
    """Architectures of the catalogue that are used."""

    def scenario(self, seed: int) -> Scenario:
        """Draw the scenario for a seed."""
        found = convert_scenario({"catalogue": "infaas-44x270"} | self.document).scenario(seed)
        return replace(found, catalogue=self._pruned(found))

    def _pruned(self, scenario: Scenario) -> Catalogue:
        tasks = {kind.task for kind in scenario.trace.kinds}
        found = scenario.catalogue.of_hardware(self.hardware)
        return replace(
            found,
            hardware=tuple(replace(one, **self.hardware[one.name]) for one in found.hardware),
            variants=tuple(
                one for one in found.variants if one.task in tasks and one.architecture in self.architectures
            ),
        )


def stream(
    arrivals: dict[str, Any], seconds: float, kinds: list[dict[str, Any]], *, start: float = 0.0, **mix: Any
) -> dict[str, Any]:
    """Return a stream of the scenario file."""
    return {"arrivals": arrivals, "seconds": seconds, "start": start, "mix": {"kinds": kinds} | mix}


def poisson(rate: float, seconds: float, kinds: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    """Return a stream of Poisson arrivals."""
    return stream({"process": "poisson", "rate": rate}, seconds, kinds, **rest)
