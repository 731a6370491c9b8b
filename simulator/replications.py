"""Replications: one scenario simulated with several seeds, on all cores.

The first seed runs in this process, so that its progress and its result are at hand; the others run in processes of
their own, and return figures only.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from simulator.scenario_file import ScenarioFile, find_system
from simulator.simulation import SimulationResult, simulate
from simulator.summary import Summary, summarize

Progress = Callable[[int, int, str], None]
"""Called with the finished steps, all steps, and the current step."""


@dataclass(frozen=True, slots=True)
class Replications:
    """Figures by seed, and the whole result of the first seed."""

    summaries: dict[int, Summary]
    first: SimulationResult


def replicate(scenario: ScenarioFile, seeds: Sequence[int], progress: Progress) -> Replications:
    """Simulate a scenario with each seed; equal arguments give equal results.

    Raises:
        OperatorError: the scenario does not fit together.
        OSError: a file of the scenario cannot be read.
    """
    system, (first, *others) = find_system(scenario.system), seeds
    prepared = scenario.scenario(first)
    total = len(prepared.trace)
    with ExitStack() as stack:
        pending = _submit(stack, scenario, others)
        result = simulate(prepared, system, lambda done: progress(done, total, f"queries of seed {first}"))
        summaries = {first: summarize(result)}
        for seed, future in zip(others, pending, strict=True):
            progress(len(summaries), len(seeds), "seeds")
            summaries[seed] = future.result()
        progress(len(seeds), len(seeds), "seeds")
    return Replications(summaries, result)


def _submit(stack: ExitStack, scenario: ScenarioFile, seeds: Sequence[int]) -> list[Future[Summary]]:
    if not seeds:
        return []
    pool = stack.enter_context(spawned_pool(min(len(seeds), max(len(os.sched_getaffinity(0)) - 1, 1))))
    stack.callback(pool.shutdown, cancel_futures=True)
    return [pool.submit(simulate_seed, scenario, seed) for seed in seeds]


def spawned_pool(workers: int | None = None) -> ProcessPoolExecutor:
    """Return a pool of fresh processes, by default one a core."""
    spawning = multiprocessing.get_context("spawn")  # a fork would copy the locks of a progress bar's thread
    return ProcessPoolExecutor(workers, mp_context=spawning)


def simulate_seed(scenario: ScenarioFile, seed: int) -> Summary:
    """Simulate a scenario with a seed, and return its figures."""
    return summarize(simulate(scenario.scenario(seed), find_system(scenario.system)))
