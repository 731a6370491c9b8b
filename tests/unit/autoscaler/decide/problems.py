"""Small allocation problems, built by hand or drawn by Hypothesis."""

from hypothesis import strategies as st

from autoscaler.decide.optimizer.model import (
    Allocation,
    AllocationProblem,
    Requirement,
    ServingOption,
    VariantSpec,
    WorkerPool,
)

PENALTY = 1000.0


def a_pool(
    hardware: str = "cpu", *, price: float = 1.0, now: int = 0, minimum: int = 0, maximum: int = 3
) -> WorkerPool:
    return WorkerPool(
        hardware=hardware,
        price=price,
        slots=2,
        memory_bytes=100,
        instances_per_worker=8,
        now=now,
        minimum=minimum,
        maximum=maximum,
    )


def a_variant_spec(
    name: str,
    *,
    memory: float = 10,
    now: int = 0,
    maximum: int = 9,
    pool: int = 0,
    task: str = "digits",
    slots: float = 1.0,
) -> VariantSpec:
    hold_cost = memory / 1000
    return VariantSpec(
        name=name,
        task=task,
        pool=pool,
        memory_bytes=memory,
        hold_cost=hold_cost,
        load_cost=hold_cost / 2,
        now=now,
        maximum=maximum,
        slots=slots,
    )


def a_requirement(*options: ServingOption, rate: float = 1.0, penalty: float = PENALTY) -> Requirement:
    return Requirement(task="digits", options=options, penalty=penalty, rate=rate)


def by_name(problem: AllocationProblem, allocation: Allocation) -> dict[str, int]:
    return {variant.name: n for variant, n in zip(problem.variants, allocation.instances, strict=True) if n}


@st.composite
def problems(draw: st.DrawFn) -> AllocationProblem:
    """Draw at most two pools, three variants and two requirements; present instances may exceed the limits."""
    pools = tuple(
        a_pool(name, price=draw(st.sampled_from([0.5, 1.0, 3.0])), now=draw(st.integers(0, 2)), maximum=2)
        for name in ("cpu", "cuda")[: draw(st.integers(1, 2))]
    )
    variants = tuple(
        a_variant_spec(
            name,
            memory=draw(st.sampled_from([1, 30, 60, 120])),
            now=draw(st.integers(0, 1)),
            maximum=draw(st.integers(0, 2)),
            pool=draw(st.integers(0, len(pools) - 1)),
            slots=draw(st.sampled_from([1.0, 2.0])),
        )
        for name in "abc"
    )
    requirements = tuple(draw(_requirements(len(variants))) for _ in range(draw(st.integers(0, 2))))
    maximum = draw(st.sampled_from([{}, {"digits": 1}]))
    return AllocationProblem(variants=variants, pools=pools, requirements=requirements, task_maximum=maximum)


@st.composite
def _requirements(draw: st.DrawFn, variants: int) -> Requirement:
    chosen = draw(st.lists(st.integers(0, variants - 1), min_size=1, max_size=2, unique=True))
    if draw(st.booleans()):
        return a_requirement(
            *(ServingOption(variant=variant, floor=draw(st.integers(1, 2))) for variant in chosen), rate=0.0
        )
    options = (
        ServingOption(
            variant=variant,
            slots=draw(st.sampled_from([0.05, 0.4, 1.0, 2.5])),
            slot_cost=draw(st.sampled_from([0.01, 0.1])),
            loss_cost=draw(st.sampled_from([0.0, 0.2])),
        )
        for variant in chosen
    )
    return a_requirement(*options)
