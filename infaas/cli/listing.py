"""`infaas tasks`, `models`, `variants` and `profile`: lists of the registered models."""

from collections.abc import Sequence

import typer
from rich.table import Table

from admin import catalog
from admin.api import Empty
from admin.catalog import CatalogRequest
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import MEASURE_AGAIN, ms, show, show_json, table
from schemas.errors import OperatorError
from schemas.generation_model import priced_s
from schemas.hardware import cost_per_1000, list_price, usd
from schemas.latency import BatchLatency, LatencyModel, LengthLatency, interpolation_error
from schemas.rows.catalog import ACCURACY, Task, TensorSpec, VariantState
from schemas.rows.cluster import CorrectionRow


def _tasks(_request: Empty, found: list[catalog.ListedTask]) -> Table:
    rows = [(t.name, _signature(t.inputs), _signature(t.outputs), _measured(t), t.partitions, t.access) for t in found]
    columns = ("task", "inputs", "outputs", "measured by", "partitions>", "access")
    return table(columns, rows, optional_columns=("partitions>",))


tasks = prints(catalog.tasks, _tasks)


def _models(request: CatalogRequest, found: list[catalog.ListedModel]) -> Table:
    _check_task(request.task, found)
    rows = [(a.name, a.task, a.source_format, a.source[:12] or "-", a.access) for a in found]
    return table(("architecture", "task", "format", "sha256", "access"), rows, optional_columns=("sha256",))


models = prints(catalog.models, _models)


@with_options
def variants(
    options: RequestOptions[CatalogRequest], ctx: typer.Context, home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """List the variants of the models with their measurements. `plot` draws them."""
    if ctx.invoked_subcommand is not None:
        return None
    request = options.request()
    found = call(home, catalog.variants, request)
    if as_json:
        return show_json(found)
    _check_task(request.task, found)
    columns = ("variant", "task", "accuracy>", "latency b1>", "b max>", "cost/1000>", "memory>", "dominated by")
    ready = [variant_row(one) for one in found if one.variant.state is VariantState.READY]
    show(table(columns, ready, optional_columns=("memory>", "task", "dominated by")))
    if noisy := [one.variant.name for one in found if one.profile is not None and one.profile.is_noisy]:
        show(f"~ measured while the machine was busy: {', '.join(noisy)}. {MEASURE_AGAIN}")
    if corrected := [(c.variant, c.worker, *_correction(c)) for one in found for c in one.corrections]:
        show(table(("variant", "worker", "times>", "since"), corrected, title="Measured over profiled latency"))
    if others := [_state_row(one) for one in found if one.variant.state is not VariantState.READY]:
        show(table(("variant", "state", "reason"), others, title="Not available"))
    if failed := [(one.variant.name, worker, why) for one in found for worker, why in one.failed.items()]:
        show(table(("variant", "worker", "reason"), failed, title="Failed"))
    return None


@with_options
def profile(options: RequestOptions[catalog.ProfileRequest], home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Show the profile of a variant: load time, latency per batch size, memory, accuracy."""
    request = options.request()
    measured = call(home, catalog.profile, request)
    found, corrections = measured.profile, measured.corrections
    if as_json:
        return show_json(found)
    facts = [
        ("variant", request.variant),
        ("device", f"{found.device}, {found.threads} thread(s)"),
        (measured.measure, f"{found.accuracy:.2%} {found.accuracy_source} on {found.samples} inputs"),
        ("load time", ms(found.load_s)),
        ("memory", _mib(found.memory_bytes)),
        ("p50 line", f"{ms(found.intercept_s)} + {ms(found.slope_s)} x batch, error {found.fit_error:.0%}"),
        ("between batches", f"lines, error {interpolation_error([(m.batch, m.p50_s) for m in found.latency]):.0%}"),
    ]
    if measured.tuning:
        facts.append(("tuning", measured.tuning))
    if found.lengths:
        error = interpolation_error([(m.length, m.p50_s) for m in found.lengths])
        facts.append(("between lengths", f"lines, error {error:.0%}"))
    if found.is_noisy:
        facts.append(("noisy", f"the machine was busy while this was measured. {MEASURE_AGAIN}"))
    for seen in corrections:
        times, since = _correction(seen)
        facts.append(
            (
                f"on {seen.worker}",
                f"{times} times the profile since {since}; predictions are corrected. {MEASURE_AGAIN}",
            )
        )
    show(table(("fact", "value"), facts))
    if found.lengths:
        show(table(("length>", "p50>", "times>"), _length_rows(found.lengths)))
    columns = ("batch>", "p50>", "p99>", "CPU>", "inputs/s>", "runs>", "discarded>", "noise>")
    return show(
        table(columns, [_latency_row(point) for point in found.latency], optional_columns=("discarded>", "CPU>"))
    )


def _check_task(task: str | None, found: Sequence[object]) -> None:
    if task is not None and not found:
        raise OperatorError(f"there is no task {task!r}, or it has no models; `infaas tasks` lists the tasks")


def variant_row(one: catalog.ListedVariant) -> tuple[object, ...]:
    """Return the row of a variant: times and cost of a query alone, the cost of a generative one for tokens."""
    variant, measured = one.variant, one.profile
    head = (variant.name, variant.task)
    if measured is None:
        return (*head, "-", "-", "-", "-", "-", one.dominated_by)
    first, last = measured.latency[0], measured.latency[-1]
    price = list_price(variant.hardware, measured.threads)
    seconds = priced_s(measured.generation, LatencyModel(measured.latency, 1).batch_s(1), offline=False)
    return (
        *head,
        f"{measured.accuracy:.2%}" + ("" if one.measure == ACCURACY else f" {one.measure}"),
        ("~" if measured.is_noisy else "") + ms(first.typical_s),
        f"{ms(last.typical_s)} (b{last.batch})",
        usd(cost_per_1000(seconds, price)) + ("" if measured.generation is None else " (tokens)"),
        _mib(measured.memory_bytes),
        one.dominated_by,
    )


def _state_row(one: catalog.ListedVariant) -> tuple[object, ...]:
    return one.variant.name, one.variant.state, one.variant.reason


def _correction(row: CorrectionRow) -> tuple[str, str]:
    """Return the measured over the profiled latency, and the time since when."""
    return f"{row.factor:.2f}", f"{row.since.astimezone():%Y-%m-%d %H:%M}"


def _length_rows(measured: Sequence[LengthLatency]) -> list[tuple[object, ...]]:
    typical_s = next((point.p50_s for point in measured if point.typical), 0.0)
    return [
        (point.length, ms(point.p50_s), f"{point.p50_s / typical_s:.2f}" if typical_s else "") for point in measured
    ]


def _latency_row(point: BatchLatency) -> tuple[object, ...]:
    rate, noise = f"{point.batch / point.typical_s:,.0f}", f"{point.noise:.0%}"
    return (point.batch, ms(point.p50_s), ms(point.p99_s), ms(point.cpu_s), rate, point.runs, point.discarded, noise)


def _measured(task: Task) -> str:
    """Return the task's measure with its output, its reference and its number of named classes, if any."""
    several = task.measured_output if len(task.outputs) > 1 else ""
    named = f"{len(task.classes)} named classes" if task.classes else ""
    details = ", ".join(filter(None, (several, task.reference and f"against {task.reference}", named)))
    return task.measure + (f" ({details})" if details else "")


def _signature(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{t.name} {t.datatype}[{','.join(map(str, t.shape))}]".replace("-1", "?") for t in tensors)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
