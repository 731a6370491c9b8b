"""Measurements of a gateway in turns, and figures of one gateway against another.

Gateways that differ in one property get the same load in turns, because the machine's speed varies more between minutes
than they differ. The client shares the cores with them, so their own CPU time is shown as well.
"""

from collections.abc import Mapping
from statistics import median
from typing import Final

from bench.core.figures import Figure, at_most
from bench.throughput.gateway import PACE, load_on

_PACED_CPU: Final = f"CPU of 1,000 requests at {PACE:g}/s"
_UNITS: Final = {
    "requests": "requests/s",
    "CPU of 1,000 requests": "s",
    f"p50 at {PACE:g}/s": "ms",
    f"p99 at {PACE:g}/s": "ms",
    _PACED_CPU: "s",
}


async def take_turn(pid: int, url: str, seconds: float, env: Mapping[str, str] = {}) -> list[float]:
    """Load at full speed, then at a steady rate. Returns the values in the order of the units."""
    full, full_per_cpu_s = await load_on(pid, url, seconds, env=env)
    paced, paced_per_cpu_s = await load_on(pid, url, seconds, PACE, env)
    return [full.per_second, 1e3 / full_per_cpu_s, paced.p50_ms, paced.p99_ms, 1e3 / paced_per_cpu_s]


def figures_of(
    what: str, broker: str, ours: list[list[float]], base: list[list[float]], most_cpu: float | None = None
) -> list[Figure]:
    """Return the figures of rows, one per turn, against the base's rows of the same turns.

    Each figure is the base's median times the median of the ratios. The CPU time at a steady rate, which varies least,
    should be at most `most_cpu` times the base's.
    """
    made: list[Figure] = []
    for at, (name, unit) in enumerate(_UNITS.items()):
        baseline = median(row[at] for row in base)
        ratio = median(one[at] / other[at] for one, other in zip(ours, base, strict=True))
        if name == _PACED_CPU and most_cpu is not None:
            made.append(at_most(f"{what}, {name}", broker, baseline * ratio, unit, baseline, most_cpu))
        else:
            made.append(
                Figure(
                    name=f"{what}, {name}",
                    broker=broker,
                    value=baseline * ratio,
                    unit=unit,
                    baseline=baseline,
                    ratio=ratio,
                )
            )
    return made
