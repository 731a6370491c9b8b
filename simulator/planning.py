"""Planning: a search for the cheapest bounds of the fleet that meet an objective, by few simulations.

Order of the search:
1. The autoscaler runs without bounds. The largest number of workers of each hardware is the peak fleet.
2. Fixed fleets: bisection on the size of a fleet with the composition of the peak, up to four times the peak; then
   coordinate descent takes away one worker at a time, of the dearest hardware first, while the objective is met.
3. Autoscaled fleets: bisection on the minimum, from none to the peak fleet, without a maximum; then bisection on the
   maximum, up to the peak that the fleet had with that minimum.

Bisection assumes that more workers never attain less. The composition is that of the autoscaler's solver: fleets with
other hardware are not tried.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.rows.cluster import Pin, PinKind

Fleet = dict[str, int]
"""Workers by hardware."""
_LARGEST: Final = 4
"""Largest fixed fleet as a multiple of the peak."""


@dataclass(frozen=True, slots=True)
class FleetBounds:
    """Bounds of the workers by hardware; hardware without a maximum has that of its launcher."""

    minimum: Fleet
    maximum: Fleet

    @property
    def fixed(self) -> bool:
        """True if the autoscaler cannot change the number of workers."""
        return bool(self.maximum) and self.minimum == self.maximum

    def pins(self) -> tuple[Pin, ...]:
        """Return the pins that set these bounds."""
        names = sorted(self.minimum.keys() | self.maximum.keys())
        pins = (
            Pin(kind=PinKind.HARDWARE, name=n, minimum=self.minimum.get(n), maximum=self.maximum.get(n)) for n in names
        )
        return tuple(pins)

    def commands(self) -> list[str]:
        """Return the commands that set these bounds."""
        return [_command(pin) for pin in self.pins()]

    def __str__(self) -> str:
        """Return `cpu 2..4`, for example; an open end is the launcher's maximum."""
        texts = (f"{pin.name} {_range(pin.minimum or 0, pin.maximum)}" for pin in self.pins() if pin.maximum != 0)
        return ", ".join(texts) or "any"


@dataclass(frozen=True, slots=True)
class TriedFleet:
    """Bounds with the figures of their simulation."""

    bounds: FleetBounds
    attainment: float
    usd_per_hour: float
    peak: Fleet
    """Largest number of workers by hardware, after the warm-up."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Objective of a plan."""

    attainment: float
    usd_per_hour: float = math.inf
    """Budget: maximum mean price of the workers."""

    def is_met(self, tried: TriedFleet) -> bool:
        """Return true if the attainment is reached, at any price."""
        return tried.attainment >= self.attainment


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Result of a search."""

    fixed: TriedFleet | None
    """Cheapest fixed fleet that meets the objective within the budget; None: there is none among those tried."""
    autoscaled: TriedFleet | None
    """Cheapest such bounds of an autoscaled fleet."""
    tried: list[TriedFleet]

    @property
    def best(self) -> TriedFleet | None:
        """The cheaper one of the two."""
        return min(filter(None, (self.autoscaled, self.fixed)), key=lambda one: one.usd_per_hour, default=None)


@dataclass
class FleetSearch:
    """Search for the cheapest bounds that meet a goal.

    Args:
        evaluate: simulates bounds.
        goal: the objective.
        prices: USD per hour of a worker, by hardware.
        largest: maximum number of workers, by hardware.
    """

    evaluate: Callable[[FleetBounds], TriedFleet]
    goal: Goal
    prices: Mapping[str, float]
    largest: Mapping[str, int]
    _tried: dict[str, TriedFleet] = field(default_factory=dict[str, TriedFleet])

    def run(self) -> FleetPlan:
        """Search; the number of simulations grows with the logarithm of the peak and with its kinds of hardware."""
        peak = self._try(FleetBounds({}, {})).peak
        if sum(peak.values()):
            self._search_fixed(peak)
            self._search_autoscaled(peak)
        fitting = [
            one for one in self._tried.values() if self.goal.is_met(one) and one.usd_per_hour <= self.goal.usd_per_hour
        ]
        return FleetPlan(
            fixed=_cheapest(one for one in fitting if one.bounds.fixed),
            autoscaled=_cheapest(one for one in fitting if not one.bounds.fixed),
            tried=list(self._tried.values()),
        )

    def _search_fixed(self, peak: Fleet) -> None:
        size = sum(peak.values())
        fitting = first_fitting(
            lambda number: self._meets(self._fixed(scaled(peak, number / size))), size, _LARGEST * size
        )
        if fitting is None:
            return
        fleet = self._fixed(scaled(peak, fitting / size)).minimum
        for name in sorted(peak, key=lambda name: -self.prices[name]):
            while fleet[name] and sum(fleet.values()) > 1 and self._meets(self._fixed(fleet | {name: fleet[name] - 1})):
                fleet = fleet | {name: fleet[name] - 1}

    def _search_autoscaled(self, peak: Fleet) -> None:
        size = sum(peak.values())
        floors = [FleetBounds({}, {}), *(FleetBounds(scaled(peak, number / size), {}) for number in range(1, size + 1))]
        fitting = first_fitting(lambda number: self._meets(floors[number]), size, size, smallest=0)
        if fitting is None:
            return
        found = self._try(floors[fitting])
        size = sum(found.peak.values())
        first_fitting(lambda number: self._meets(self._capped(found, number / size)), size, size)

    def _capped(self, found: TriedFleet, factor: float) -> FleetBounds:
        """Return bounds with the minimum of `found`, and this multiple of its peak as the maximum."""
        minimum, peak = found.bounds.minimum, scaled(found.peak, factor)
        return FleetBounds(minimum, {name: max(peak.get(name, 0), minimum.get(name, 0)) for name in self.largest})

    def _fixed(self, fleet: Fleet) -> FleetBounds:
        whole = {name: min(fleet.get(name, 0), most) for name, most in self.largest.items()}
        return FleetBounds(whole, whole)

    def _meets(self, bounds: FleetBounds) -> bool:
        return self.goal.is_met(self._try(bounds))

    def _try(self, bounds: FleetBounds) -> TriedFleet:
        key = repr(bounds)
        if key not in self._tried:
            self._tried[key] = self.evaluate(bounds)
        return self._tried[key]


def scaled(fleet: Fleet, factor: float) -> Fleet:
    """Return a fleet of `factor` times the size, rounded up."""
    return {name: math.ceil(count * factor - 1e-9) for name, count in fleet.items()}


def first_fitting(fits: Callable[[int], bool], start: int, largest: int, smallest: int = 1) -> int | None:
    """Return the smallest number that fits, of those from `smallest` to `largest`; None: `largest` does not.

    It begins at `start`, doubles until a number fits, and bisects below that.
    """
    low, high = smallest - 1, start
    while not fits(high):
        if high >= largest:
            return None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _cheapest(tried: Iterator[TriedFleet]) -> TriedFleet | None:
    """Return the cheapest; at equal prices the one with tighter bounds."""
    return min(tried, key=lambda one: (one.usd_per_hour, -len(one.bounds.maximum)), default=None)


def _command(pin: Pin) -> str:
    bounds = (("--min", pin.minimum), ("--max", pin.maximum))
    flags = "".join(f" {flag} {count}" for flag, count in bounds if count is not None)
    return f"infaas scale pin {pin.kind} {pin.name}{flags}"


def _range(minimum: int, maximum: int | None) -> str:
    if maximum is None:
        return f"{minimum}.."
    return str(minimum) if minimum == maximum else f"{minimum}..{maximum}"
