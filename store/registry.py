"""Registry of tasks, architectures, variants, profiles, and corrections of profiles.

The tables enforce the rules: tasks and architectures share one namespace, an accuracy is 0..1, a variant belongs to its
architecture's task, and a ready variant has a profile. Writing an equal row again changes nothing, so an interrupted
registration can be repeated.
"""

from collections.abc import Collection
from typing import Final

from schemas.rows.catalog import Architecture, Profile, Task, Variant, VariantState
from schemas.rows.cluster import CorrectionRow
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("registry")


async def put_task(session: DatabaseSession, task: Task) -> None:
    """Create the task unless it exists with this signature and measure.

    Raises:
        StoreConflict: it exists with another signature or measure, or an architecture has this name.
    """
    t = task
    row = (t.name, t.inputs, t.outputs, t.partitions, t.measure, t.measured_output, t.classes, t.reference)
    if await session.fetch_value(str, _SQL["put_task"], *row) is None:
        raise StoreConflict(f"task {t.name} exists with another signature or measure; choose another name")


async def get_task(session: DatabaseSession, name: str) -> Task | None:
    """Return the task of this name, or None."""
    return await session.fetch_one(Task, _SQL["list_tasks"], [name])


async def list_tasks(session: DatabaseSession, *, names: Collection[str] | None = None) -> list[Task]:
    """List all tasks, or those of `names`, sorted by name."""
    return await session.fetch(Task, _SQL["list_tasks"], names)


async def grow_task(session: DatabaseSession, name: str, partitions: int) -> None:
    """Store a larger number of partitions of the task's topics; a smaller number is ignored."""
    await session.execute(_SQL["grow_task"], name, partitions)


async def put_architecture(session: DatabaseSession, architecture: Architecture) -> None:
    """Create the architecture unless it exists with this content.

    Raises:
        StoreConflict: the name stands for another model or a task, or the task does not exist.
    """
    a = architecture
    row = (a.name, a.task, a.source, a.source_format, a.sample_rows, a.processing, a.made_with, a.model)
    if await session.fetch_value(str, _SQL["put_architecture"], *row, a.version, a.inputs) is None:
        raise StoreConflict(
            f"architecture {a.name} exists with another file or task: register again, as the next version of its "
            "model, or choose another --name"
        )


async def get_architecture(session: DatabaseSession, name: str) -> Architecture | None:
    """Return the architecture of this name, or None."""
    return await session.fetch_one(Architecture, _SQL["list_architectures"], None, [name])


async def list_architectures(
    session: DatabaseSession, *, task: str | None = None, names: Collection[str] | None = None
) -> list[Architecture]:
    """List all architectures, or those of a task or of `names`, sorted by name."""
    return await session.fetch(Architecture, _SQL["list_architectures"], task, names)


async def put_variant(
    session: DatabaseSession, variant: Variant, profile: Profile | None = None, *, unless_ready: bool = False
) -> None:
    """Create the variant or replace its data; with `profile`, both in one transaction.

    With `unless_ready` a variant that is ready is kept as it is, with its profile. The number of partitions of an
    existing variant never decreases, because that of a Kafka topic cannot.

    Raises:
        StoreConflict: its architecture does not exist or belongs to another task, or it is ready without a profile.
    """
    if profile is not None and isinstance(session, Pool):
        async with session.transaction() as transaction:
            return await put_variant(transaction, variant, profile, unless_ready=unless_ready)
    v = variant
    row = (v.name, v.architecture, v.task, v.runtime, v.precision, v.hardware, v.max_batch, v.artifact, v.state)
    row = (*row, v.reason, v.partitions, v.mixes_lengths, v.tuning, unless_ready)
    if await session.fetch_value(str, _SQL["put_variant"], *row) is None:
        kept = await get_variant(session, v.name) if unless_ready else None
        if kept is None or (kept.architecture, kept.task) != (v.architecture, v.task):
            raise StoreConflict(f"variant {v.name} belongs to another architecture or task")
    elif profile is not None:
        await put_profile(session, profile)
    return None


async def grow_variant(session: DatabaseSession, variant: str, partitions: int) -> None:
    """Store a larger number of partitions of the variant's topic; a smaller number is ignored."""
    await session.execute(_SQL["grow_variant"], variant, partitions)


async def get_variant(session: DatabaseSession, name: str) -> Variant | None:
    """Return the variant of this name, or None."""
    return await session.fetch_one(Variant, _SQL["list_variants"], None, None, None, [name])


async def list_variants(
    session: DatabaseSession,
    *,
    task: str | None = None,
    architecture: str | None = None,
    state: VariantState | None = None,
    names: Collection[str] | None = None,
) -> list[Variant]:
    """List all variants, filtered by task, architecture, state and `names`, sorted by name."""
    return await session.fetch(Variant, _SQL["list_variants"], task, architecture, state, names)


async def put_profile(session: DatabaseSession, profile: Profile) -> None:
    """Store the profile of a variant; it replaces the previous one.

    Raises:
        StoreConflict: the variant does not exist, or a value is out of range.
    """
    p = profile
    row = (p.variant, p.device, p.threads, p.load_s, p.memory_bytes, p.accuracy, p.accuracy_source, p.samples)
    row = (*row, p.latency, p.intercept_s, p.slope_s, p.fit_error, p.lengths, p.generation)
    await session.execute(_SQL["put_profile"], *row)


async def get_profile(session: DatabaseSession, variant: str) -> Profile | None:
    """Return the profile of a variant, or None if it has not been profiled."""
    return await session.fetch_one(Profile, _SQL["list_profiles"], None, None, [variant], None)


async def list_profiles(
    session: DatabaseSession,
    *,
    task: str | None = None,
    architecture: str | None = None,
    state: VariantState | None = None,
    names: Collection[str] | None = None,
) -> list[Profile]:
    """List all profiles, filtered by task, architecture, state of the variant and `names`, sorted by variant."""
    return await session.fetch(Profile, _SQL["list_profiles"], task, architecture, names, state)


async def put_correction(session: DatabaseSession, profile: Profile, worker: str, factor: float, seen_s: float) -> None:
    """Store the factor for a profile's latency on a worker, observed for `seen_s` seconds; 1 deletes the correction.

    A correction belongs to one measurement: a new profile of the variant deletes its corrections.
    """
    if factor == 1.0:
        await session.execute(_SQL["delete_correction"], profile.variant, worker)
    else:
        await session.execute(_SQL["put_correction"], profile.variant, worker, factor, seen_s, profile.created_at)


async def list_corrections(
    session: DatabaseSession, *, variant: str | None = None, worker: str | None = None
) -> list[CorrectionRow]:
    """List the corrections of all workers that have not retired, optionally of one variant or worker."""
    return await session.fetch(CorrectionRow, _SQL["list_corrections"], variant, worker)
