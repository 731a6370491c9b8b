"""`infaas tasks`, `models`, `variants` and `profile`: what is registered."""

from collections.abc import Sequence
from typing import Annotated

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json, with_database
from infaas.cli.output import ms, show, show_json, table, usd
from infaas.cli.register import AGAIN
from registry.comparison import compare
from schemas.access import PUBLIC, Access
from schemas.errors import OperatorError
from schemas.hardware import cost_per_1000, list_price
from schemas.interpolation import interpolation_error
from schemas.latency import BatchLatency, LatencyModel
from schemas.length import LengthLatency, LengthModel
from schemas.rows.catalog import ACCURACY, Architecture, Profile, Task, TensorSpec, Variant, VariantState
from schemas.rows.placement import CorrectionRow, InstanceRow
from schemas.status import InstanceState
from store.access import list_access
from store.corrections import list_corrections
from store.placement import list_instances
from store.pool import Pool
from store.registry import (
    get_profile,
    get_task,
    get_variant,
    list_architectures,
    list_profiles,
    list_tasks,
    list_variants,
)

OfTask = Annotated[str | None, typer.Option("--task", help="Only of this task.")]


def tasks(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """List the tasks that clients can ask for."""
    found, access = with_database(home, _tasks_with_access)
    if as_json:
        return show_json(found)
    rows = [
        (t.name, _signature(t.inputs), _signature(t.outputs), _measured(t), t.partitions, access.get(t.name, PUBLIC))
        for t in found
    ]
    columns = ("task", "inputs", "outputs", "measured by", "partitions>", "may be used")
    return show(table(columns, rows, spare=("partitions>",)))


def models(home: Home = DEFAULT_HOME, task: OfTask = None, as_json: Json = False) -> None:
    """List the architectures: the models that were registered."""
    found, access = with_database(home, lambda pool: _models_with_access(pool, task))
    if as_json:
        return show_json(found)
    _check_task(task, found)
    rows = [(a.name, a.task, a.source_format, a.source[:12], access.get(a.model, PUBLIC)) for a in found]
    return show(table(("architecture", "task", "format", "sha256", "may be used"), rows, spare=("sha256",)))


def variants(ctx: typer.Context, home: Home = DEFAULT_HOME, task: OfTask = None, as_json: Json = False) -> None:
    """List the variants that were made of the models, with what was measured of them; `plot` draws them."""
    if ctx.invoked_subcommand is not None:
        return None
    found, profiles, failed, corrections, measures = with_database(
        home, lambda pool: _variants_with_profiles(pool, task)
    )
    ready = [v for v in found if v.state is VariantState.READY]
    dominated = {one.variant.name: one.dominated_by for one in compare(ready, profiles)}
    if as_json:
        reasons = {v.name: {row.worker: row.reason for row in failed if row.variant == v.name} for v in found}
        return show_json(
            [
                {
                    "variant": v,
                    "profile": profiles.get(v.name),
                    "measure": measures[v.task],
                    "failed": reasons[v.name],
                    "corrections": [row for row in corrections if row.variant == v.name],
                    "dominated_by": dominated.get(v.name, ""),
                }
                for v in found
            ]
        )
    _check_task(task, found)
    columns = ("variant", "task", "accuracy>", "latency b1>", "b max>", "USD/1000>", "memory>", "dominated by")
    rows = [(*_variant_row(v, profiles.get(v.name), measures[v.task]), dominated.get(v.name, "")) for v in ready]
    show(table(columns, rows, spare=("memory>", "task", "dominated by")))
    if noisy := [name for name, measured in profiles.items() if measured.is_noisy]:
        show(f"~ measured while the machine was busy: {', '.join(noisy)}. {AGAIN}")
    if corrections:
        rows = [(row.variant, row.worker, *_correction(row)) for row in corrections]
        show(table(("variant", "worker", "times>", "since"), rows, title="Latency seen over that measured"))
    others = [(v.name, v.state, v.reason) for v in found if v.state is not VariantState.READY]
    if others:
        show(table(("variant", "state", "reason"), others, title="Not to be chosen"))
    if failed:
        show(table(("variant", "worker", "reason"), [(r.variant, r.worker, r.reason) for r in failed], title="Failed"))
    return None


def profile(
    variant: Annotated[str, typer.Argument(help="e.g. textcnn.onnx-fp32.cpu")],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Show what was measured of a variant: load time, latency per batch size, memory, accuracy."""
    found, row, measure, corrections = with_database(home, lambda pool: _profile_and_variant(pool, variant))
    if found is None or row is None:
        raise OperatorError(f"there is no profile of {variant!r}; `infaas variants` lists what is registered")
    if as_json:
        return show_json(found)
    facts = [
        ("variant", variant),
        ("device", f"{found.device}, {found.threads} thread(s)"),
        (measure, f"{found.accuracy:.2%} {found.accuracy_source} on {found.samples} inputs"),
        ("load time", ms(found.load_s)),
        ("memory", _mib(found.memory_bytes)),
        ("p50 line", f"{ms(found.intercept_s)} + {ms(found.slope_s)} x batch, error {found.fit_error:.0%}"),
        ("between batches", f"lines, error {interpolation_error([(m.batch, m.p50_s) for m in found.latency]):.0%}"),
    ]
    if row.tuning:
        facts.append(("tuning", row.tuning))
    if found.lengths:
        error = interpolation_error([(m.length, m.p50_s) for m in found.lengths])
        facts.append(("between lengths", f"lines, error {error:.0%}"))
    if found.is_noisy:
        facts.append(("noisy", f"the machine was busy while this was measured. {AGAIN}"))
    for seen in corrections:
        times, since = _correction(seen)
        facts.append((f"on {seen.worker}", f"{times} times as long, seen since {since}: predicted so there. {AGAIN}"))
    show(table(("fact", "value"), facts))
    if found.lengths:
        show(table(("length>", "p50>", "times>"), _length_rows(found.lengths)))
    columns = ("batch>", "p50>", "p99>", "CPU>", "inputs/s>", "runs>", "discarded>", "noise>")
    return show(table(columns, [_latency_row(point) for point in found.latency], spare=("discarded>", "CPU>")))


async def _tasks_with_access(pool: Pool) -> tuple[list[Task], dict[str, Access]]:
    return await list_tasks(pool), await list_access(pool)


async def _models_with_access(pool: Pool, task: str | None) -> tuple[list[Architecture], dict[str, Access]]:
    return await list_architectures(pool, task=task), await list_access(pool)


async def _variants_with_profiles(
    pool: Pool, task: str | None
) -> tuple[list[Variant], dict[str, Profile], list[InstanceRow], list[CorrectionRow], dict[str, str]]:
    """Variants, profiles by their names, instances that could not be loaded, corrections, and measures by task."""
    async with pool.snapshot() as session:
        found, profiles = await list_variants(session, task=task), await list_profiles(session, task=task)
        names = {variant.name for variant in found}
        failed = [r for r in await list_instances(session) if r.state is InstanceState.FAILED and r.variant in names]
        corrections = [row for row in await list_corrections(session) if row.variant in names]
        measures = {t.name: t.measure for t in await list_tasks(session)}
    return found, {p.variant: p for p in profiles}, failed, corrections, measures


async def _profile_and_variant(
    pool: Pool, name: str
) -> tuple[Profile | None, Variant | None, str, list[CorrectionRow]]:
    variant = await get_variant(pool, name)
    task = await get_task(pool, variant.task) if variant else None
    corrections = await list_corrections(pool, variant=name)
    return await get_profile(pool, name), variant, task.measure if task else ACCURACY, corrections


def _check_task(task: str | None, found: Sequence[object]) -> None:
    if task is not None and not found:
        raise OperatorError(f"there is no task {task!r}, or no model of it; `infaas tasks` lists the tasks")


def _variant_row(variant: Variant, measured: Profile | None, measure: str) -> tuple[object, ...]:
    head = (variant.name, variant.task)
    if measured is None:
        return (*head, "-", "-", "-", "-", "-")
    first, last = measured.latency[0], measured.latency[-1]
    price = list_price(variant.hardware, measured.threads)
    return (
        *head,
        f"{measured.accuracy:.2%}" + ("" if measure == ACCURACY else f" {measure}"),
        ("~" if measured.is_noisy else "") + ms(first.typical_s),
        f"{ms(last.typical_s)} (b{last.batch})",
        usd(cost_per_1000(LatencyModel(measured.latency, 1).batch_s(1), price)),
        _mib(measured.memory_bytes),
    )


def _correction(row: CorrectionRow) -> tuple[str, str]:
    """Times that it takes there of what was measured, and since when."""
    return f"{row.factor:.2f}", f"{row.since.astimezone():%Y-%m-%d %H:%M}"


def _length_rows(measured: Sequence[LengthLatency]) -> list[tuple[object, ...]]:
    factor = LengthModel(measured).factor
    return [(point.length, ms(point.p50_s), f"{factor(point.length):.2f}") for point in measured]


def _latency_row(point: BatchLatency) -> tuple[object, ...]:
    rate, noise = f"{point.batch / point.typical_s:,.0f}", f"{point.noise:.0%}"
    return (point.batch, ms(point.p50_s), ms(point.p99_s), ms(point.cpu_s), rate, point.runs, point.discarded, noise)


def _measured(task: Task) -> str:
    """The measure, what it is measured on where that was a choice, and how many classes have names."""
    several = task.measured_output if len(task.outputs) > 1 else ""
    named = f"{len(task.classes)} named classes" if task.classes else ""
    details = ", ".join(filter(None, (several, task.reference and f"against {task.reference}", named)))
    return task.measure + (f" ({details})" if details else "")


def _signature(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{t.name} {t.datatype}[{','.join(map(str, t.shape))}]".replace("-1", "?") for t in tensors)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
