"""Runners of registration steps: in processes of this machine, or on workers of their hardware (`builds`)."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, cast

from registry.pipeline.generation import GenerateVariant
from registry.pipeline.isolation import run_step
from registry.pipeline.measurement import MeasureVariant
from registry.pipeline.stage_outputs import ComputeOutputs
from registry.plan import PlanVariants

HardwareStep = PlanVariants | GenerateVariant | MeasureVariant | ComputeOutputs
"""Steps whose results are valid for one hardware type."""
Show = Callable[[str], None]
"""Shows where a step runs, or that it waits."""
T = TypeVar("T")


class StepRunner(Protocol):
    """Runner of steps that have a hardware type. A step writes its outputs to the files that it names."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step and return its result, of type `kind`.

        Raises the errors of `run_step`, and `OperatorError` if the step cannot run.
        """
        ...


class LocalSteps:
    """Runner on this machine; the results are valid for its devices."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step in a child process; a plan in this process, because it executes no model."""
        if isinstance(step, PlanVariants):
            return cast(T, await asyncio.to_thread(step.run))
        return await run_step(step, kind)


LOCAL: Final = LocalSteps()
