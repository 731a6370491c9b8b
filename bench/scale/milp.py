"""Time of the solver for the scale of many architectures, and its gain over the heuristic.

The INFaaS paper (section 4.2) reports 50 s with Gurobi for 100 architectures, and 23 s for 50. Here each of 10 to 200
architectures has 12 variants: precisions and batch limits on CPUs, GPUs and Inferentia, with profiles drawn from the
ranges that INFaaS reports (latency over two orders of magnitude, memory and load time over about one and a half). Four
architectures share a task. A task's queries have five classes of accuracy and latency, and one names an architecture.
There may be 200 workers (120, 40, 40), and the load is so high that about three quarters are needed.

Cold: nothing runs, and the solver gets no start solution. Warm: the cold solution runs, and the load of each class has
changed by up to a fifth. The time includes building the problem, the heuristic, and the solver.
"""

import math
import random
import time
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec

from autoscaler.decide.optimizer.greedy import solve_greedy
from autoscaler.decide.optimizer.milp import GAP, MilpSolution, solve_milp
from autoscaler.decide.optimizer.model import EPSILON, Allocation, AllocationProblem, cost, served
from autoscaler.decide.pareto import VariantRanking, launchable_cores, live_cores, rank_variants
from autoscaler.decide.requirements import build_problem
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot, HardwareType, ScalingLimits
from bench.core.database import synthetic_profile, synthetic_variant
from bench.core.figures import Figure, Measured, plain, within
from schemas.latency import BatchLatency
from schemas.load_classes import LoadClass
from schemas.rows.catalog import AccuracySource, Profile, Variant

SIZES: Final = (10, 25, 50, 100, 200)
SEEDS: Final = 5
_GIB: Final = 1 << 30
_LIMITS: Final = ScalingLimits()
_TIME_LIMIT_S: Final = 20.0
_USED: Final = 150
"""Number of workers needed, of the 200."""
_PROMISED: Final = 100
"""Number of architectures for which one second is promised."""
HARDWARE: Final = tuple(
    HardwareType(
        name=name, price_per_hour=price, start_s=start_s, slots=slots, memory_bytes=gib * _GIB, maximum=maximum,
        runtimes=(runtime,),
    )
    for name, price, start_s, slots, gib, maximum, runtime in (
        ("cpu", 0.384, 5, 4, 30, 120, "onnx"),
        ("cuda", 3.06, 20, 1, 16, 40, "tensorrt"),
        ("neuron", 0.362, 20, 1, 8, 40, "neuron"),
    )
)  # fmt: skip


class VariantRecipe(NamedTuple):
    """Recipe of a variant from an architecture."""

    hardware: str
    precision: str
    max_batch: int
    speed: float
    """Speed relative to a CPU core in fp32."""
    loss: float
    """Loss of accuracy against fp32."""


RECIPES: Final = (
    VariantRecipe("cpu", "fp32", 32, 1.0, 0.0),
    VariantRecipe("cpu", "bf16", 32, 1.3, 0.001),
    VariantRecipe("cpu", "int8-dynamic", 32, 2.0, 0.008),
    VariantRecipe("cpu", "int8-static", 32, 2.5, 0.012),
    *(
        VariantRecipe("cuda", p, b, s, a)
        for p, s, a in (("fp16", 25.0, 0.001), ("int8", 40.0, 0.01))
        for b in (8, 32, 64)
    ),
    VariantRecipe("neuron", "bf16", 1, 4.0, 0.001),
    VariantRecipe("neuron", "bf16", 32, 6.0, 0.001),
)
_GROWTH: Final = {"cpu": 0.85, "cuda": 0.15, "neuron": 0.4}
"""Growth of a batch's time per additional input, as a share of the time of one input, by hardware."""
_RUNTIME: Final = {hardware.name: hardware.runtimes[0] for hardware in HARDWARE}


class SyntheticCluster(NamedTuple):
    """Synthetic cluster: its registered variants, and the load on it."""

    variants: dict[str, Variant]
    profiles: dict[str, Profile]
    classes: tuple[ClassLoad, ...]

    def snapshot(self, load: float) -> ClusterSnapshot:
        """Return the cluster with `load` times its load."""
        loads = (msgspec.structs.replace(c, inputs_per_s=c.inputs_per_s * load) for c in self.classes)
        return ClusterSnapshot(hardware=HARDWARE, classes=tuple(loads))

    def ranking(self, snapshot: ClusterSnapshot) -> VariantRanking:
        """Rank all variants."""
        return rank_variants(
            self.variants, self.profiles, live_cores(snapshot.workers), launchable_cores(snapshot.hardware)
        )


class SolverRun(NamedTuple):
    """Result of the solver on one problem."""

    seconds: float
    gap: float
    """Largest share by which the cost may exceed the optimum."""
    heuristic: float
    """Cost of the heuristic's solution over the solver's."""


def synthetic_cluster(architectures: int, seed: int) -> SyntheticCluster:
    """Draw a cluster of `architectures` architectures; each seed gives another."""
    draw = random.Random(seed)
    variants, profiles, classes = dict[str, Variant](), dict[str, Profile](), list[ClassLoad]()
    accuracies: dict[str, list[float]] = {}
    for number in range(architectures):
        name, task = f"arch{number}", f"task{number // 4}"
        input_s, accuracy = 10 ** draw.uniform(-2.5, -0.5), draw.uniform(0.55, 0.85)
        memory, load_s = 10 ** draw.uniform(-1.3, 0.3) * _GIB, 10 ** draw.uniform(-0.2, 1.0)
        for index, recipe in enumerate(RECIPES):
            variant = f"{name}.{_RUNTIME[recipe.hardware]}-{index}.{recipe.hardware}"
            variants[variant] = synthetic_variant(
                variant, task, runtime=_RUNTIME[recipe.hardware], precision=recipe.precision,
                hardware=recipe.hardware, max_batch=recipe.max_batch, artifact="",
            )  # fmt: skip
            first_s = input_s / recipe.speed * draw.uniform(0.7, 1.4)
            profiles[variant] = _profile(variant, recipe, first_s, accuracy - recipe.loss, memory, load_s)
        accuracies.setdefault(task, []).append(accuracy)
        asked = LoadClass(task=task, target=name, latency_ms=8000 * input_s)
        classes.append(ClassLoad(load_class=asked, inputs_per_s=10 ** draw.uniform(-1, 1)))
    for task, found in accuracies.items():
        ranked = sorted(found)
        for share, latency_ms in ((0.0, None), (0.0, 1000.0), (0.5, 400.0), (0.5, 2000.0), (0.9, 1000.0)):
            minimum = math.floor(100 * ranked[int(share * (len(ranked) - 1))] - 2) / 100
            asked = LoadClass(task=task, min_accuracy=minimum, latency_ms=latency_ms)
            classes.append(ClassLoad(load_class=asked, inputs_per_s=10 ** draw.uniform(0, 2.5)))
    return SyntheticCluster(variants, profiles, tuple(classes))


def _profile(
    name: str, recipe: VariantRecipe, first_s: float, accuracy: float, memory: float, load_s: float
) -> Profile:
    growth = _GROWTH[recipe.hardware]
    sizes = (batch for batch in (1, 2, 4, 8, 16, 32, 64) if batch <= recipe.max_batch)
    times = ((batch, first_s * (1 - growth + growth * batch)) for batch in sizes)
    latency = (BatchLatency(batch=batch, p50_s=s, p99_s=1.5 * s) for batch, s in times)
    return synthetic_profile(
        name,
        latency,
        device=recipe.hardware,
        load_s=load_s,
        memory_bytes=int(memory * (0.5 if "int8" in recipe.precision else 1.0)),
        accuracy=accuracy,
        accuracy_source=AccuracySource.MEASURED,
        samples=1000,
        slope_s=0.0,
    )


def highest_load(cluster: SyntheticCluster) -> float:
    """Return the highest load that the heuristic serves with `_USED` workers."""
    low, high = 0.0, 1.0
    while _fits(cluster, high):
        low, high = high, 2 * high
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if _fits(cluster, middle) else (low, middle)
    return low


def _fits(cluster: SyntheticCluster, load: float) -> bool:
    snapshot = cluster.snapshot(load)
    problem = build_problem(cluster.ranking(snapshot), snapshot, _LIMITS)
    answer = solve_greedy(problem)
    return sum(answer.workers) <= _USED and min(served(problem, answer)) > 1 - EPSILON


def solve_timed(
    ranking: VariantRanking, snapshot: ClusterSnapshot, running: AllocationProblem | None, *, warm: bool
) -> tuple[SolverRun, MilpSolution]:
    """Build and solve the problem once; `running` gives the running allocation, None: nothing runs."""
    began = time.perf_counter()
    posed = build_problem(ranking, snapshot, _LIMITS)
    if running is not None:
        posed = msgspec.structs.replace(posed, variants=running.variants, pools=running.pools)
    found = solve_milp(posed, _TIME_LIMIT_S, warm=warm)
    seconds = time.perf_counter() - began
    price = cost(posed, found.allocation)
    return SolverRun(
        seconds, price / found.bound - 1 if found.bound else 0.0, cost(posed, solve_greedy(posed)) / price
    ), found


def _running(problem: AllocationProblem, allocation: Allocation) -> AllocationProblem:
    variants = (msgspec.structs.replace(k, now=n) for k, n in zip(problem.variants, allocation.instances, strict=True))
    pools = (msgspec.structs.replace(p, now=n) for p, n in zip(problem.pools, allocation.workers, strict=True))
    return msgspec.structs.replace(problem, variants=tuple(variants), pools=tuple(pools))


def changed_load(snapshot: ClusterSnapshot, seed: int) -> ClusterSnapshot:
    """Return the snapshot with each class's load changed by up to a fifth."""
    draw = random.Random(seed)
    loads = (msgspec.structs.replace(c, inputs_per_s=c.inputs_per_s * draw.uniform(0.8, 1.2)) for c in snapshot.classes)
    return msgspec.structs.replace(snapshot, classes=tuple(loads))


def runs(architectures: int) -> tuple[list[SolverRun], list[SolverRun]]:
    """Solve cold and warm, once per seed."""
    cold, warm = list[SolverRun](), list[SolverRun]()
    for seed in range(SEEDS):
        cluster = synthetic_cluster(architectures, seed)
        snapshot = cluster.snapshot(highest_load(cluster))
        ranking = cluster.ranking(snapshot)
        run, found = solve_timed(ranking, snapshot, None, warm=False)
        cold.append(run)
        there = _running(build_problem(ranking, snapshot, _LIMITS), found.allocation)
        warm.append(solve_timed(ranking, changed_load(snapshot, seed), there, warm=True)[0])
    return cold, warm


async def measure() -> list[Figure]:
    """Measure all sizes; takes about a minute."""
    figures, medians = list[Figure](), dict[int, float]()
    for size in SIZES:
        cold, warm = runs(size)
        medians[size] = median(run.seconds for run in cold)
        figures += _figures(size, cold, warm)
    growth = math.log(medians[SIZES[-1]] / medians[SIZES[0]]) / math.log(SIZES[-1] / SIZES[0])
    return [*figures, _figure("MILP: its time grows with architectures to the power of", growth, "")]


def _figures(size: int, cold: Sequence[SolverRun], warm: Sequence[SolverRun]) -> list[Figure]:
    what = f"MILP, {size} architectures"
    worst = max(run.seconds for run in (*cold, *warm))
    return [
        _figure(f"{what}: cold, median", [run.seconds for run in cold], "s"),
        _figure(f"{what}: warm, median", [run.seconds for run in warm], "s"),
        _figure(f"{what}: worst", worst, "s", 1.0 if size == _PROMISED else None),
        _figure(f"{what}: worst gap", 100 * max(run.gap for run in (*cold, *warm)), "%", 100 * GAP),
        _figure(f"{what}: the heuristic costs more by", 100 * (median(run.heuristic for run in cold) - 1), "%"),
    ]


def _figure(name: str, value: Measured, unit: str, limit: float | None = None) -> Figure:
    return plain(name, "none", value, unit) if limit is None else within(name, "none", value, unit, limit)
