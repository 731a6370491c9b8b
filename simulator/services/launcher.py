"""A simulated launcher: workers start after the time of their hardware, and end when they hold nothing."""

from collections.abc import Callable
from math import exp
from typing import Final

import numpy as np

from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from simulator.cluster.cluster import Cluster
from simulator.cluster.worker import SimulatedWorker
from simulator.durations import normal_draws

_LOOK_S: Final = 0.1
_STOP_TIMEOUT_S: Final = 30.0
"""Seconds after which a stopping process is killed."""


class SimulatedLauncher:
    """Launcher of workers; it reports each worker that is up, and the name of each that has ended."""

    def __init__(
        self,
        cluster: Cluster,
        random: np.random.Generator,
        on_start: Callable[[SimulatedWorker], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._noise = normal_draws(random)
        self._on_start = on_start
        self._on_end = on_end
        self._launched: dict[str, LaunchedWorker] = {}
        self._began: dict[str, float] = {}
        """Time from which on each worker is charged for."""
        self._ended_usd = 0.0

    def running(self) -> tuple[LaunchedWorker, ...]:
        """Return all workers that were started and have not ended."""
        return tuple(self._launched.values())

    def add_running(self, name: str, hardware: str) -> None:
        """Add a worker that runs already, and charge for it from now on."""
        self._charge(name, hardware)
        self._launched[name] = LaunchedWorker(worker=name, hardware=hardware, state=LaunchState.RUNNING)
        self._on_start(self._cluster.add_worker(name, hardware))

    def start(self, name: str, hardware: str) -> None:
        """Start a worker, and charge for it from now on."""
        if name in self._launched:
            return
        self._charge(name, hardware)
        self._launched[name] = LaunchedWorker(worker=name, hardware=hardware, state=LaunchState.STARTING)
        self._events.after(self._start_s(hardware), self._up, (name, hardware))

    def restart(self, name: str) -> None:
        """Start the process of a worker that died."""
        one = self._launched.get(name)
        if one is not None and one.state is LaunchState.RUNNING:
            self._events.after(self._start_s(one.hardware), self._up, (name, one.hardware))

    def stop(self, name: str) -> None:
        """Stop a worker once its instances hold nothing; kill it if that takes too long."""
        one = self._launched.get(name)
        if one is None or one.state is LaunchState.STOPPING:
            return
        self._launched[name] = LaunchedWorker(worker=name, hardware=one.hardware, state=LaunchState.STOPPING)
        worker = self._cluster.workers.get(name)
        if worker is not None:
            for instance in list(worker.instances.values()):
                instance.follow(None, instance.work.latency.max_batch)
        self._end((name, self._events.now + _STOP_TIMEOUT_S))

    def _end(self, stopping: tuple[str, float]) -> None:
        name, until_s = stopping
        worker = self._cluster.workers.get(name)
        if worker is not None and worker.alive and worker.instances and self._events.now < until_s:
            self._events.after(_LOOK_S, self._end, stopping)
            return
        if worker is not None:
            if worker.instances:
                worker.die(0.0)
            worker.stop()
            del self._cluster.workers[name]
        hardware = self._launched.pop(name).hardware
        self._cluster.charge(hardware, -1)
        self._ended_usd += self._usd_of(name, hardware)
        del self._began[name]
        self._on_end(name)

    def _up(self, started: tuple[str, str]) -> None:
        name, hardware = started
        one = self._launched.get(name)
        if one is None or one.state is LaunchState.STOPPING:
            return
        self._launched[name] = LaunchedWorker(worker=name, hardware=hardware, state=LaunchState.RUNNING)
        self._on_start(self._cluster.add_worker(name, hardware))

    def _charge(self, name: str, hardware: str) -> None:
        self._began[name] = self._events.now
        self._cluster.charge(hardware, 1)

    def _usd_of(self, name: str, hardware: str) -> float:
        return self._cluster.hardware[hardware].price_per_hour * (self._events.now - self._began[name]) / 3600

    def usd(self) -> float:
        """Return the sum over all workers of price times time from start to end, or to now."""
        return self._ended_usd + sum(self._usd_of(name, one.hardware) for name, one in self._launched.items())

    def _start_s(self, hardware: str) -> float:
        return self._cluster.hardware[hardware].start_s * exp(
            self._cluster.scenario.workers.start_deviation * next(self._noise)
        )
