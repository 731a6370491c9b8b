"""Chooses where the steps of a registration run: on workers of their hardware, or on this machine."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import msgspec

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.builds.remote_steps import has_builder, remote_steps
from registry.step_runner import HardwareStep, LocalSteps, Show, StepRunner
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.registrations import MissingWorkerPolicy
from store.pool import Pool

T = TypeVar("T")


class RegistryServices(NamedTuple):
    """Services that a registration uses."""

    pool: Pool
    kafka: KafkaSettings
    artifacts: ArtifactStore
    exchange: ArtifactStore
    """Store, beside the artifacts, of files that only builds need."""


class BuildChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A user's choice of where steps run."""

    local: bool = False
    if_no_worker: MissingWorkerPolicy = MissingWorkerPolicy.HERE
    again: bool = False
    """True to repeat steps that were executed before."""


class StepsByHardware:
    """Runner that runs each step by the runner of its hardware type, and all other steps by `others`."""

    def __init__(self, runners: Mapping[Hardware, StepRunner], others: StepRunner) -> None:
        self._runners: dict[str, StepRunner] = {**runners}
        self._others = others
        self.hardware = tuple(runners)
        """Requested hardware types that are not left out."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step on its hardware."""
        return await self._runners.get(step.hardware, self._others).run(step, kind, show)


@asynccontextmanager
async def open_executor(
    devices: Sequence[Hardware], services: RegistryServices, choice: BuildChoice, note: Callable[[str], None]
) -> AsyncGenerator[StepsByHardware]:
    """Yield the runner of steps for `devices`; `note` gets a text for each device that has no worker.

    Raises:
        OperatorError: every device is left out, so nothing would be registered.
    """
    here = LocalSteps()
    if choice.local:
        yield StepsByHardware(dict.fromkeys(devices, here), here)
        return
    wait = choice.if_no_worker is MissingWorkerPolicy.WAIT
    async with remote_steps(*services, again=choice.again, wait=wait) as remote:
        runners: dict[Hardware, StepRunner] = {}
        for device in devices:
            if wait or await has_builder(services.pool, device):
                runners[device] = remote
            elif choice.if_no_worker is MissingWorkerPolicy.SKIP:
                note(f"there is no worker of {device}: skipping it")
            else:
                note(f"there is no worker of {device}: its variants are made and measured on this machine")
                runners[device] = here
        if not runners:
            raise OperatorError(
                f"nothing is registered: there is no worker of {', '.join(devices)}, and --if-no-worker skip omits "
                "hardware without a worker; start such a worker, or choose --if-no-worker wait"
            )
        yield StepsByHardware(runners, remote)
