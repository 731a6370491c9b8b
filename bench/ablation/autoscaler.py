"""Switches of the autoscaler: load, requirements, allocation, delays, and placement."""

from typing import Final

from msgspec.structs import replace

from autoscaler.decide.snapshot import ClassLoad, ScalingLimits
from bench.ablation.mechanism import AblatedMechanism, Area, argument, constant, given, making, result, returning

_REQUIREMENTS: Final = "autoscaler.decide.requirements"
_BUILDER: Final = f"{_REQUIREMENTS}:_RequirementBuilder"
_EXPECTED: Final = "autoscaler.decide.expected_load"
_WINDOW: Final = "autoscaler.observe.load_window"
_GREEDY: Final = "autoscaler.decide.optimizer.greedy"
_MILP: Final = "autoscaler.decide.optimizer.milp"
_LIMITS: Final = "autoscaler.decide.snapshot:ScalingLimits"
_DECIDE: Final = "autoscaler.decide.decide"
_PLACER: Final = "autoscaler.decide.placement:_Placer"
_PLACEMENT: Final = "autoscaler.decide.placement_builder:PlacementBuilder"
_COUNTS: Final = "autoscaler.decide.worker_counts"
_THROUGHPUT: Final = "autoscaler.decide.throughput"


def _at_once(limits: ScalingLimits) -> ScalingLimits:
    return replace(limits, downscale_delay_s=0.0, worker_downscale_delay_starts=0.0)


def _without_peaks(loads: tuple[ClassLoad, ...]) -> tuple[ClassLoad, ...]:
    return tuple(replace(load, peak_per_s=0.0) for load in loads)


LOAD: Final = (
    AblatedMechanism(
        name="forecast",
        area=Area.LOAD,
        code=(
            f"{_EXPECTED}:growth",
            f"{_EXPECTED}:_trend",
            f"{_EXPECTED}:_certain_slope",
            f"{_EXPECTED}:TREND_S",
            f"{_EXPECTED}:_CERTAIN",
            f"{_BUILDER}.horizon_s",
            f"{_WINDOW}:LoadWindow.tick",
            f"{_WINDOW}:LoadWindow.history",
            f"{_EXPECTED}:_LEAST",
            f"{_EXPECTED}:_MOST_GROWTH",
        ),
        patches={f"{_REQUIREMENTS}:growth": returning(1.0)},
    ),
    AblatedMechanism(
        name="noise of arrivals left out",
        area=Area.LOAD,
        code=(f"{_EXPECTED}:_NOISE",),
        patches={f"{_EXPECTED}:_NOISE": constant(0.0)},
    ),
    AblatedMechanism(
        name="less headroom for more slots",
        area=Area.LOAD,
        code=(f"{_THROUGHPUT}:headroom_of", f"{_BUILDER}.headrooms_of", f"{_BUILDER}.slot_price"),
        patches={f"{_REQUIREMENTS}:headroom_of": argument(1)},
    ),
    AblatedMechanism(
        name="busy seconds of the last minute",
        area=Area.LOAD,
        code=("autoscaler.decide.snapshot:ClassLoad.peak_per_s",),
        patches={f"{_WINDOW}:LoadWindow.class_loads": result(_without_peaks)},
    ),
    AblatedMechanism(
        name="expected load of rare classes",
        area=Area.LOAD,
        code=(
            f"{_WINDOW}:_remembered",
            f"{_WINDOW}:REMEMBERED_S",
            "autoscaler.decide.snapshot:ClassLoad.age_s",
        ),
        patches={f"{_WINDOW}:REMEMBERED_S": constant(0.0)},
    ),
    AblatedMechanism(
        name="load of a backlog",
        area=Area.LOAD,
        code=(
            f"{_BUILDER}.backlogs",
            f"{_BUILDER}.catch_up_s",
            f"{_LIMITS}.catch_up_s",
            "autoscaler.decide.offline_rate:offline_rate",
        ),
        patches={f"{_BUILDER}.backlogs": making(list)},
        promise="an offline backlog is worked off",
    ),
    AblatedMechanism(
        name="measured slowdown in throughput",
        area=Area.LOAD,
        code=(f"{_THROUGHPUT}:Slowdowns", f"{_THROUGHPUT}:_MOST_SLOWDOWN"),
        patches={f"{_THROUGHPUT}:Slowdowns.of": returning(1.0)},
    ),
    AblatedMechanism(
        name="less busy slots for tight latencies",
        area=Area.LOAD,
        code=(f"{_THROUGHPUT}:_LEAST_BUSY",),
        patches={f"{_THROUGHPUT}:_LEAST_BUSY": constant(1.0)},
    ),
    AblatedMechanism(
        name="headroom above 1.05",
        area=Area.LOAD,
        code=(f"{_LIMITS}.headroom",),
        settings={"scaling.limits.headroom": 1.05},
    ),
)

ALLOCATION: Final = (
    AblatedMechanism(
        name="solver",
        area=Area.ALLOCATION,
        code=(_MILP, f"{_DECIDE}:follow_targets", "autoscaler.decide.plan:SolverTargets"),
        settings={"scaling.policy": "greedy"},
    ),
    AblatedMechanism(
        name="greedy: prices of full pools raised in rounds",
        area=Area.ALLOCATION,
        code=(
            f"{_GREEDY}:_GreedyAllocator.is_exhausted",
            f"{_GREEDY}:_DEARER_FACTOR",
            f"{_GREEDY}:_EXHAUSTED_SHARE",
            f"{_GREEDY}:_most_for_a_slot",
        ),
        patches={f"{_GREEDY}:_GreedyAllocator.is_exhausted": returning(False)},
    ),
    AblatedMechanism(
        name="greedy: whole and used prices of workers",
        area=Area.ALLOCATION,
        code=(f"{_GREEDY}:_GreedyAllocator.worker_fraction",),
        patches={
            f"{_GREEDY}:_GreedyAllocator.worker_fraction": returning(float("inf")),
        },
    ),
    AblatedMechanism(
        name="price of a load",
        area=Area.ALLOCATION,
        code=(f"{_LIMITS}.load_weight_per_s", "autoscaler.decide.optimizer.model:VariantSpec.load_cost"),
        settings={"scaling.limits.load_weight_per_s": 0.0},
    ),
    AblatedMechanism(
        name="price of slots and memory on running workers",
        area=Area.ALLOCATION,
        code=(f"{_LIMITS}.share_weight", "autoscaler.decide.optimizer.model:VariantSpec.hold_cost"),
        settings={"scaling.limits.share_weight": 0.0},
    ),
    AblatedMechanism(
        name="price of accuracy",
        area=Area.ALLOCATION,
        code=(f"{_LIMITS}.accuracy_price", "autoscaler.decide.optimizer.model:ServingOption.loss_cost"),
        settings={"scaling.limits.accuracy_price": 0.0},
    ),
    AblatedMechanism(
        name="one worker without requirements",
        area=Area.ALLOCATION,
        code=(f"{_REQUIREMENTS}:_with_one_worker",),
        patches={f"{_REQUIREMENTS}:_with_one_worker": argument(0)},
        promise="the next query after silence waits for no start",
    ),
)

DELAYS: Final = (
    AblatedMechanism(
        name="delay of fewer instances",
        area=Area.DELAYS,
        code=(f"{_LIMITS}.downscale_delay_s", f"{_LIMITS}.downscale_delay_loads"),
        settings={"scaling.limits.downscale_delay_s": 0.0, "scaling.limits.downscale_delay_loads": 0.0},
    ),
    AblatedMechanism(
        name="delay of fewer workers",
        area=Area.DELAYS,
        code=(f"{_LIMITS}.worker_downscale_delay_starts",),
        patches={f"{_DECIDE}:pool_targets": given(4, _at_once)},
    ),
    AblatedMechanism(
        name="limits of batches by the most urgent class",
        area=Area.DELAYS,
        code=(
            f"{_DECIDE}:_Decision.batch_limits",
            f"{_PLACER}.limit_batches",
            f"{_PLACEMENT}.limit_batch",
            "autoscaler.decide.optimizer.model:ServingOption.batch",
            "autoscaler.decide.optimizer.model:Requirement.mean_batch",
        ),
        patches={f"{_DECIDE}:_Decision.batch_limits": making(dict)},
    ),
    AblatedMechanism(
        name="replacement of disturbed workers",
        area=Area.DELAYS,
        code=(f"{_COUNTS}:_disturbed", f"{_COUNTS}:PoolTarget.replaced"),
        patches={f"{_COUNTS}:_disturbed": making(list)},
    ),
)

PLACEMENT: Final = (
    AblatedMechanism(
        name="eviction by cost of a miss",
        area=Area.PLACEMENT,
        code=(
            f"{_PLACEMENT}.eviction_cost",
            "autoscaler.observe.status_cache:UseRates",
            "autoscaler.observe.status_cache:HALF_LIFE_S",
        ),
        patches={f"{_PLACEMENT}.eviction_cost": returning(0.0)},
    ),
    AblatedMechanism(
        name="no eviction before some idle time",
        area=Area.PLACEMENT,
        code=(f"{_LIMITS}.evict_idle_s", f"{_LIMITS}.evict_idle_loads"),
        settings={"scaling.limits.evict_idle_s": 0.0, "scaling.limits.evict_idle_loads": 0.0},
    ),
    AblatedMechanism(
        name="Pareto-best variants in free memory",
        area=Area.PLACEMENT,
        code=(f"{_PLACER}.place_best",),
        patches={f"{_PLACER}.place_best": returning(None)},
    ),
    AblatedMechanism(
        name="more instances of variants with load",
        area=Area.PLACEMENT,
        code=(f"{_THROUGHPUT}:spread_count", f"{_PLACER}.place_spread"),
        patches={f"{_DECIDE}:spread_count": returning(0)},
    ),
    AblatedMechanism(
        name="removal of dominated variants",
        area=Area.PLACEMENT,
        code=(f"{_PLACER}.is_obsolete", f"{_LIMITS}.keep_idle_s"),
        patches={f"{_PLACER}.is_obsolete": returning(False)},
        promise="an old version is unloaded after five minutes",
    ),
    AblatedMechanism(
        name="drain of workers in use",
        area=Area.PLACEMENT,
        code=(f"{_PLACER}.is_load_served",),
        patches={f"{_PLACER}.is_load_served": returning(False)},
    ),
    AblatedMechanism(
        name="instances of draining workers elsewhere first",
        area=Area.PLACEMENT,
        code=(f"{_PLACER}.move_drained",),
        patches={f"{_PLACER}.move_drained": returning(None)},
        promise="a drain interrupts no service",
    ),
    AblatedMechanism(
        name="demands by waiting queries",
        area=Area.PLACEMENT,
        code=("autoscaler.observe.status_cache:WorkerStatusCache.mark_waiting",),
        patches={"autoscaler.observe.status_cache:WorkerStatusCache.mark_waiting": returning(None)},
        promise="a query in a topic is found after a death of its worker",
    ),
    AblatedMechanism(
        name="growth of partitions",
        area=Area.PLACEMENT,
        code=(f"{_DECIDE}:_partitions", "autoscaler.decide.placement_builder:partition_count"),
        patches={f"{_DECIDE}:_partitions": making(dict)},
    ),
)

UNSEEN: Final = (
    AblatedMechanism(
        name="steps of the solver's search",
        area=Area.LOAD,
        code=(f"{_MILP}:_Search",),
        unseen="they spare time of the solver; simulated targets take a constant time",
    ),
    AblatedMechanism(
        name="grace after a change of leaders",
        area=Area.LOAD,
        code=(f"{_PLACEMENT}.is_awaited", f"{_LIMITS}.leader_grace_s"),
        unseen="a simulation has one leader",
    ),
    AblatedMechanism(
        name="subtraction of inputs that did not exist",
        area=Area.LOAD,
        code=(f"{_WINDOW}:LoadWindow._without_unfounded",),
        unseen="simulated clients claim their true inputs",
        promise="claims of clients start no workers",
    ),
    AblatedMechanism(
        name="load of canaries",
        area=Area.LOAD,
        code=(f"{_EXPECTED}:canary_loads", f"{_EXPECTED}:_answered_share", f"{_EXPECTED}:_of_canary"),
        unseen="catalogues of simulations have no versions",
        promise="rollouts",
    ),
)

AUTOSCALER: Final = (*LOAD, *ALLOCATION, *DELAYS, *PLACEMENT, *UNSEEN)
