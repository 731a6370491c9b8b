"""Where the steps of a registration run: on workers of their hardware, or on this machine."""

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from broker.settings import KafkaSettings
from registry.artifact_settings import ENV, open_artifacts, open_exchange
from registry.artifacts import ArtifactStore
from registry.builds.presence import has_builder
from registry.builds.remote_steps import remote_steps
from registry.step_runner import LOCAL, HardwareStep, Show, StepRunner
from schemas.hardware import Hardware
from store.pool import Pool

T = TypeVar("T")


class IfNoWorker(StrEnum):
    """What to do for a hardware type of which there is no worker."""

    HERE = "here"
    """Use the device of this machine."""
    WAIT = "wait"
    SKIP = "skip"


LocalFlag = Annotated[
    bool, typer.Option("--local", help="Make and measure variants on this machine, whatever workers there are.")
]
IfNoWorkerFlag = Annotated[
    IfNoWorker,
    typer.Option(help="Where no worker of a --hardware is there: use this machine's, wait for one, or leave it out."),
]


class BuildChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants of where steps run."""

    local: bool = False
    if_no_worker: IfNoWorker = IfNoWorker.HERE
    again: bool = False
    """Whether steps are to be done that were done before."""


class StepsByHardware:
    """Runner that has others run what is for a hardware type."""

    def __init__(self, runners: Mapping[Hardware, StepRunner], others: StepRunner) -> None:
        self._runners: dict[str, StepRunner] = {**runners}
        self._others = others
        self.hardware = tuple(runners)
        """Hardware types of those that were asked for that are not left out."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Run a step where its hardware is."""
        return await self._runners.get(step.hardware, self._others).run(step, kind, show)


@asynccontextmanager
async def chosen_steps(
    devices: Sequence[Hardware], pool: Pool, kafka: KafkaSettings, home: Path, choice: BuildChoice,
    note: Callable[[str], None],
) -> AsyncGenerator[StepsByHardware]:  # fmt: skip
    """Open what runs steps for `devices`; `note` is told which of these have no worker, and what follows."""
    if choice.local:
        yield StepsByHardware(dict.fromkeys(devices, LOCAL), LOCAL)
        return
    wait = choice.if_no_worker is IfNoWorker.WAIT
    stores = artifact_store(home), exchange_store(home)
    async with remote_steps(pool, kafka, *stores, again=choice.again, wait=wait) as remote:
        runners: dict[Hardware, StepRunner] = {}
        for device in devices:
            if wait or await has_builder(pool, device):
                runners[device] = remote
            elif choice.if_no_worker is IfNoWorker.SKIP:
                note(f"no worker of {device} is there: it is left out")
            else:
                note(f"no worker of {device} is there: variants for it are made and measured on this machine")
                runners[device] = LOCAL
        yield StepsByHardware(runners, remote)


def artifact_store(home: Path) -> ArtifactStore:
    """Return where the system of this home, or that of the environment, keeps files of models."""
    return open_artifacts(os.environ.get(ENV, ""), home)


def exchange_store(home: Path) -> ArtifactStore:
    """Return where, beside that, files are which only builds need."""
    return open_exchange(os.environ.get(ENV, ""), home)
