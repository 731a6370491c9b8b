"""Where the steps of a registration run: in processes of this machine, or on workers of their hardware (`builds`)."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, cast

from registry.pipeline.generation import GenerateVariant
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import MeasureVariant
from registry.pipeline.stage_outputs import ComputeOutputs
from registry.plan import PlanVariants

HardwareStep = PlanVariants | GenerateVariant | MeasureVariant | ComputeOutputs
"""Steps whose results hold for one hardware type."""
Show = Callable[[str], None]
"""Is told where a step is, and what it waits for."""
T = TypeVar("T")


class StepRunner(Protocol):
    """Runner of steps that have a hardware type. What a step writes is in the files that it names."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step and return its result. Raises what `run_step` raises, and `OperatorError` where it cannot run."""
        ...


class LocalSteps:
    """Runner on this machine, whose devices they are then about."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step; a plan in place, since it executes no model."""
        if isinstance(step, PlanVariants):
            return cast(T, await asyncio.to_thread(step.run))
        return await run_step(step, kind)


LOCAL: Final = LocalSteps()
