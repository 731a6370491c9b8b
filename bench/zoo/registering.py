"""Registration of all architectures, one after the other, and its time, memory and disk space.

Registrations of an earlier run are kept with their times, so an interrupted run is resumed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import psutil

from bench.core.figures import Figure, plain
from bench.core.system import SystemUnderTest
from bench.zoo.models import PIXELS, ZooArchitecture
from registry.artifacts import ArtifactStore
from registry.register import register
from registry.request import Registration
from schemas.rows.catalog import VariantState
from store.pool import Pool, open_pool
from store.registry import list_profiles, list_variants

TASK: Final = "imagenet"
MAX_BATCH: Final = 8
_ROWS: Final = 48
_WATCH_S: Final = 0.2


class ZooRegistration(msgspec.Struct):
    """Cost of the registrations so far."""

    seconds: dict[str, float]
    """Seconds by architecture."""
    peak_bytes: int = 0
    """Peak memory of the registration and its steps together."""


async def register_all(system: SystemUnderTest, folder: Path, architectures: Sequence[ZooArchitecture]) -> list[Figure]:
    """Register the missing architectures. Returns the figures of all of them."""
    state_file, calibration = system.home / "zoo-registration.json", folder / "calibration.npz"
    taken = _read(state_file)
    await asyncio.to_thread(_write_images, calibration)
    artifacts = ArtifactStore(system.home / "artifacts")
    async with open_pool(system.postgres) as pool, _watching_memory(taken):
        for number, architecture in enumerate(architectures, 1):
            if architecture.name in taken.seconds:
                continue
            began = time.monotonic()
            await register(_request(architecture, folder, calibration), pool, system.kafka, artifacts, _Silent())
            taken.seconds[architecture.name] = time.monotonic() - began
            print(f"{number} of {len(architectures)}: {architecture.name} {taken.seconds[architecture.name]:.1f} s")
            state_file.write_bytes(msgspec.json.encode(taken))
        return await _figures(pool, taken, system.home / "artifacts")


class _Silent:
    """Progress sink that shows nothing."""

    def step(self, done: int, total: int, text: str) -> None:
        """Ignore a step."""

    def note(self, text: str) -> None:
        """Ignore a note."""


def _request(architecture: ZooArchitecture, folder: Path, calibration: Path) -> Registration:
    return Registration(
        architecture=architecture.name, task=TASK, file=architecture.file(folder), calibration=calibration,
        accuracy=architecture.accuracy, max_batch=MAX_BATCH, partitions=1,
    )  # fmt: skip


async def _figures(pool: Pool, taken: ZooRegistration, artifacts: Path) -> list[Figure]:
    variants = await list_variants(pool, task=TASK)
    ready = sum(variant.state is VariantState.READY for variant in variants)
    noisy = sum(profile.is_noisy for profile in await list_profiles(pool, task=TASK))
    disk = await asyncio.to_thread(_size_of, artifacts)
    named = f"{len(taken.seconds)} architectures registered"
    values = (
        (f"{named}: variants ready", ready, ""),
        (f"{named}: variants refused", len(variants) - ready, ""),
        (f"{named}: profiles still noisy", noisy, ""),
        (f"{named}: time", sum(taken.seconds.values()) / 60, "min"),
        (f"{named}: peak memory of the registration", taken.peak_bytes / 2**20, "MiB"),
        (f"{named}: disk", disk / 2**30, "GiB"),
    )
    return [plain(name, "apache", value, unit) for name, value, unit in values]


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


@asynccontextmanager
async def _watching_memory(taken: ZooRegistration) -> AsyncGenerator[None]:
    """Record the peak memory of this process and its steps while the context is open."""

    async def watch() -> None:
        while True:
            taken.peak_bytes = max(taken.peak_bytes, await asyncio.to_thread(_memory_of_all))
            await asyncio.sleep(_WATCH_S)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(), name="watch memory")
        try:
            yield
        finally:
            watching.cancel()


def _memory_of_all() -> int:
    """Return the bytes of this process and its steps, without the system under test."""
    own = psutil.Process()
    total = own.memory_info().rss
    for child in own.children():
        with suppress(psutil.NoSuchProcess):
            if "registry.pipeline.step_process" in child.cmdline():
                total += child.memory_info().rss
    return total


def _write_images(file: Path) -> None:
    """Write images of noise, which suffice to calibrate random weights."""
    np.savez(file, image=np.random.default_rng(0).standard_normal((_ROWS, 3, PIXELS, PIXELS), dtype=np.float32))


def _read(file: Path) -> ZooRegistration:
    return msgspec.json.decode(file.read_bytes(), type=ZooRegistration) if file.exists() else ZooRegistration({})
