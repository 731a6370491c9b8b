"""Registry of tasks, architectures, variants and profiles.

The tables enforce the rules: tasks and architectures share one namespace, an accuracy is 0..1, a variant belongs to its
architecture's task, and a ready variant has a profile. Writing an equal row again changes nothing, so an interrupted
registration can be repeated.
"""

from collections.abc import Collection
from typing import Final

from schemas.rows.catalog import Architecture, Profile, Task, Variant, VariantState
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool
from store.sql import load_queries

_queries = load_queries("registry")
_PUT_TASK: Final = _queries["put_task"]
_LIST_TASKS: Final = _queries["list_tasks"]
_GROW_TASK: Final = _queries["grow_task"]
_DELETE_TASK: Final = _queries["delete_task"]
_PUT_ARCHITECTURE: Final = _queries["put_architecture"]
_LIST_ARCHITECTURES: Final = _queries["list_architectures"]
_DELETE_ARCHITECTURE: Final = _queries["delete_architecture"]
_FREE_NAMES: Final = _queries["free_names"]
_PUT_VARIANT: Final = _queries["put_variant"]
_SET_VARIANT_STATE: Final = _queries["set_variant_state"]
_GROW_VARIANT: Final = _queries["grow_variant"]
_LIST_VARIANTS: Final = _queries["list_variants"]
_DELETE_VARIANT: Final = _queries["delete_variant"]
_PUT_PROFILE: Final = _queries["put_profile"]
_LIST_PROFILES: Final = _queries["list_profiles"]


async def put_task(session: DatabaseSession, task: Task) -> None:
    """Create the task unless it exists with this signature and measure.

    Raises:
        StoreConflict: it exists with another signature or measure, or an architecture has this name.
    """
    t = task
    row = (t.name, t.inputs, t.outputs, t.partitions, t.measure, t.measured_output, t.classes, t.reference)
    if await session.fetch_value(str, _PUT_TASK, *row) is None:
        raise StoreConflict(f"task {t.name} exists with another signature or measure; choose another name")


async def get_task(session: DatabaseSession, name: str) -> Task | None:
    """Return the task of this name, or None."""
    return await session.fetch_one(Task, _LIST_TASKS, [name])


async def list_tasks(session: DatabaseSession, *, names: Collection[str] | None = None) -> list[Task]:
    """List all tasks, or those of `names`, sorted by name."""
    return await session.fetch(Task, _LIST_TASKS, names)


async def grow_task(session: DatabaseSession, name: str, partitions: int) -> None:
    """Store a larger number of partitions of the task's topics; a smaller number is ignored."""
    await session.execute(_GROW_TASK, name, partitions)


async def delete_task(pool: Pool, name: str) -> bool:
    """Delete a task with everything registered for it; return false if it does not exist."""
    async with pool.transaction() as session:
        names = [architecture.name for architecture in await list_architectures(session, task=name)]
        gone = await session.fetch_value(str, _DELETE_TASK, name)
        await session.execute(_FREE_NAMES, [*names, name] if gone else [])
    return gone is not None


async def put_architecture(session: DatabaseSession, architecture: Architecture) -> None:
    """Create the architecture unless it exists with this content.

    Raises:
        StoreConflict: the name stands for another model or a task, or the task does not exist.
    """
    a = architecture
    row = (a.name, a.task, a.source, a.source_format, a.sample_rows, a.processing, a.made_with, a.model)
    if await session.fetch_value(str, _PUT_ARCHITECTURE, *row, a.version, a.inputs) is None:
        raise StoreConflict(f"architecture {a.name} exists with another model or task; choose another name")


async def get_architecture(session: DatabaseSession, name: str) -> Architecture | None:
    """Return the architecture of this name, or None."""
    return await session.fetch_one(Architecture, _LIST_ARCHITECTURES, None, [name])


async def list_architectures(
    session: DatabaseSession, *, task: str | None = None, names: Collection[str] | None = None
) -> list[Architecture]:
    """List all architectures, or those of a task or of `names`, sorted by name."""
    return await session.fetch(Architecture, _LIST_ARCHITECTURES, task, names)


async def delete_architecture(pool: Pool, name: str) -> bool:
    """Delete an architecture with its variants and profiles; return false if it does not exist."""
    async with pool.transaction() as session:
        gone = await session.fetch_value(str, _DELETE_ARCHITECTURE, name)
        await session.execute(_FREE_NAMES, [name] if gone else [])
    return gone is not None


async def put_variant(session: DatabaseSession, variant: Variant, profile: Profile | None = None) -> None:
    """Create the variant or replace its data; with `profile`, both in one transaction.

    The number of partitions of an existing variant never decreases, because that of a Kafka topic cannot.

    Raises:
        StoreConflict: its architecture does not exist or belongs to another task, or it is ready without a profile.
    """
    if profile is not None and isinstance(session, Pool):
        async with session.transaction() as transaction:
            return await put_variant(transaction, variant, profile)
    v = variant
    row = (v.name, v.architecture, v.task, v.runtime, v.precision, v.hardware, v.max_batch, v.artifact, v.state)
    row = (*row, v.reason, v.partitions, v.mixes_lengths, v.tuning)
    if await session.fetch_value(str, _PUT_VARIANT, *row) is None:
        raise StoreConflict(f"variant {v.name} belongs to another architecture or task")
    if profile is not None:
        await put_profile(session, profile)
    return None


async def grow_variant(session: DatabaseSession, variant: str, partitions: int) -> None:
    """Store a larger number of partitions of the variant's topic; a smaller number is ignored."""
    await session.execute(_GROW_VARIANT, variant, partitions)


async def set_variant_state(session: DatabaseSession, variant: str, state: VariantState, reason: str = "") -> None:
    """Store the state of a variant's registration; `reason` explains a refusal.

    Raises:
        StoreConflict: the variant does not exist, or would be ready without a profile or refused without a reason.
    """
    if not await session.execute(_SET_VARIANT_STATE, variant, state, reason):
        raise StoreConflict(f"there is no variant {variant}")


async def get_variant(session: DatabaseSession, name: str) -> Variant | None:
    """Return the variant of this name, or None."""
    return await session.fetch_one(Variant, _LIST_VARIANTS, None, None, None, [name])


async def list_variants(
    session: DatabaseSession,
    *,
    task: str | None = None,
    architecture: str | None = None,
    state: VariantState | None = None,
    names: Collection[str] | None = None,
) -> list[Variant]:
    """List all variants, filtered by task, architecture, state and `names`, sorted by name."""
    return await session.fetch(Variant, _LIST_VARIANTS, task, architecture, state, names)


async def delete_variant(session: DatabaseSession, name: str) -> bool:
    """Delete a variant with its profile and instances; return false if it does not exist."""
    return await session.execute(_DELETE_VARIANT, name) > 0


async def put_profile(session: DatabaseSession, profile: Profile) -> None:
    """Store the profile of a variant; it replaces the previous one.

    Raises:
        StoreConflict: the variant does not exist, or a value is out of range.
    """
    p = profile
    row = (p.variant, p.device, p.threads, p.load_s, p.memory_bytes, p.accuracy, p.accuracy_source, p.samples)
    await session.execute(_PUT_PROFILE, *row, p.latency, p.intercept_s, p.slope_s, p.fit_error, p.lengths)


async def get_profile(session: DatabaseSession, variant: str) -> Profile | None:
    """Return the profile of a variant, or None if it has not been profiled."""
    return await session.fetch_one(Profile, _LIST_PROFILES, None, None, [variant], None)


async def list_profiles(
    session: DatabaseSession,
    *,
    task: str | None = None,
    architecture: str | None = None,
    state: VariantState | None = None,
    names: Collection[str] | None = None,
) -> list[Profile]:
    """List all profiles, filtered by task, architecture, state of the variant and `names`, sorted by variant."""
    return await session.fetch(Profile, _LIST_PROFILES, task, architecture, names, state)
