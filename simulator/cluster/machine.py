"""The machine that all workers share with Kafka, the services and the client, if a scenario has one.

Its processes take CPU time from each other, which makes batches slower, and its use decides on upgrades and on the
delay before queries are sent. Rules:
* Each query takes CPU time of the services; a refused one a share of that. They are spread evenly over the CPUs, so a
  batch is slower by the share of a CPU that the services use.
* Workers report the use of the whole machine, as `process.cpus` measures it.
"""

from math import exp
from typing import Final

from simulator.events import EventQueue
from simulator.scenario import Machine

_MEMORY_S: Final = 0.5
"""Time constant of rates and of the measured use, as in `process.cpus`."""
_ARRIVAL: Final = 0.3
"""Share of a query's CPU time that it takes even if it is refused."""


class SharedMachine:
    """Present use of one machine."""

    def __init__(self, settings: Machine, events: EventQueue) -> None:
        self._settings = settings
        self._events = events
        self._computing = 0
        """Threads that compute."""
        self._per_s = 0.0
        """Queries per second, as of `_counted_s`; a refused one counts as a share of one."""
        self._counted_s = events.now
        self._used = settings.other_cpu
        """Smoothed share of the CPU time in use, as of `_measured_s`."""
        self._measured_s = events.now

    @property
    def cpus(self) -> float:
        """Number of its CPUs."""
        return self._settings.cpus

    def arrived(self) -> None:
        """Count a query that its client sends now."""
        self._count(_ARRIVAL)

    def forwarded(self) -> None:
        """Count a query that a selector forwards now."""
        self._count(1.0 - _ARRIVAL)

    def begin(self, threads: int) -> None:
        """Count threads that begin to compute."""
        self.used()
        self._computing += threads

    def end(self, threads: int) -> None:
        """Count threads that have ended a batch."""
        self.used()
        self._computing -= threads

    def slowdown(self) -> float:
        """Return the ratio of the present time of a batch to that on an idle machine."""
        return 1.0 + self._services()

    def used(self) -> float:
        """Return the smoothed share of the CPU time in use."""
        now = self._events.now
        passed_s = now - self._measured_s
        if passed_s > 0.0:
            share = self._computing / self.cpus + self._services() + self._settings.other_cpu
            self._used += (1.0 - exp(-passed_s / _MEMORY_S)) * (min(share, 1.0) - self._used)
            self._measured_s = now
        return self._used

    def _services(self) -> float:
        """Return the share of the CPU time that clients and services use."""
        return self._rate() * self._settings.query_cpu_s / self.cpus

    def _count(self, queries: float) -> None:
        self._per_s = self._rate() + queries / _MEMORY_S
        self._counted_s = self._events.now

    def _rate(self) -> float:
        """Return the present queries per second."""
        return self._per_s * exp((self._counted_s - self._events.now) / _MEMORY_S)
