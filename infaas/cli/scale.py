"""`infaas scale`: current and wanted workers and instances, the autoscaler's decisions, pins, and pause."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import typer
from rich.console import Group
from rich.table import Table

from admin import scaling
from admin.api import Empty
from infaas.cli.options import prints
from infaas.cli.output import CommandGroup, date_time, err, facts, plain, show, table
from schemas.rows.cluster import ClusterRows, DecisionRow, Pin, WorkerRow

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Show scaling and its reasons; set bounds or pause.")


def _status(_request: Empty, scale: ClusterRows) -> None:
    if scale.control.paused:
        by, at = scale.control.changed_by, date_time(scale.control.changed_at)
        show(f"[bold yellow]paused[/] by {plain(by)} at {at}; `infaas scale resume` ends it")
    show(_hardware_table(scale))
    show(_workers_table(scale))
    show(_instances_table(scale))
    if scale.pins:
        show(_pins_table(scale.pins))


app.command()(prints(scaling.status, _status))


def _history(_request: scaling.DecisionsRequest, rows: list[DecisionRow]) -> Table:
    columns = ("at", "action", "subject", "policy", "reason")
    return table(columns, [(date_time(r.at), r.action, _subject(r), r.policy or "-", r.reason) for r in rows])


app.command()(prints(scaling.history, _history))


def _explain(_request: scaling.ExplanationRequest, rows: list[DecisionRow]) -> Group:
    return Group(*map(_explanation, rows))


app.command()(prints(scaling.explain, _explain))


def _pin(request: scaling.PinRequest, made: Pin) -> None:
    err.print(f"{request.kind} {request.name}: {made.bounds}", highlight=False)


app.command()(prints(scaling.pin, _pin))


def _unpin(request: scaling.UnpinRequest, _result: Empty) -> None:
    err.print(f"{request.kind} {request.name} follows load", highlight=False)


app.command()(prints(scaling.unpin, _unpin))


def _show_hold(_request: Empty, hold: scaling.ScaleHold) -> None:
    state = "is paused" if hold.paused else "follows load"
    err.print(f"the scale {state}" + ("" if hold.changed else ", as before"), highlight=False)


app.command("pause")(prints(scaling.pause, _show_hold))
app.command("resume")(prints(scaling.resume, _show_hold))


# -- tables ------------------------------------------------------------------------------------------------------------


def _hardware_table(scale: ClusterRows) -> Table:
    wanted = {row.hardware: row for row in scale.wanted}
    rows: list[tuple[object, ...]] = []
    for name in sorted(wanted.keys() | {worker.hardware for worker in scale.workers}):
        running = [w for w in scale.workers if w.hardware == name and w.alive]
        draining = sum(w.draining for w in running)
        price = sum(w.price_per_hour for w in running)
        want = wanted.get(name)
        rows.append(
            (
                name,
                want.count if want else "-",
                len(running) - draining,
                draining,
                f"{price:.3f}",
                want.reason if want else "",
            )
        )
    return table(("hardware", "wanted>", "running>", "draining>", "USD/h>", "reason"), rows, title="Workers wanted")


def _workers_table(scale: ClusterRows) -> Table:
    held = {worker.name: sum(row.worker == worker.name for row in scale.instances) for worker in scale.workers}
    rows = [
        (
            w.name,
            _worker_state(w),
            w.slots,
            f"{w.memory_bytes >> 20:,}",
            held[w.name],
            f"{w.price_per_hour:.3f}",
            w.host,
        )
        for w in scale.workers
    ]
    return table(("worker", "state", "slots>", "MiB>", "instances>", "USD/h>", "host"), rows, title="Workers")


def _worker_state(worker: WorkerRow) -> str:
    return f"draining for {worker.draining_s:.0f} s" if worker.state == "draining" else worker.state


def _instances_table(scale: ClusterRows) -> Table:
    rows = [(r.variant, r.worker, r.state, _ranges(r.partitions), r.max_batch, r.reason) for r in scale.instances]
    return table(("instance", "worker", "state", "partitions", "batch>", "reason"), rows, title="Instances")


def _pins_table(pins: Iterable[Pin]) -> Table:
    rows = [(f"{p.kind} {p.name}", _or_dash(p.minimum), _or_dash(p.maximum), p.pinned_by) for p in pins]
    return table(("pinned", "min>", "max>", "by"), rows, title="Pins")


def _explanation(row: DecisionRow) -> Table:
    return facts(
        [
            ("at", date_time(row.at)),
            ("action", f"{row.action} {_subject(row)}"),
            ("reason", row.reason),
            ("policy", row.policy or "-"),
            ("inputs", _values(row.inputs)),
            ("plan", _values(row.explanation)),
        ]
    )


def _values(values: Mapping[str, Any]) -> Table | None:
    if not values:
        return None
    grid = Table.grid(padding=(0, 2))
    for name, value in values.items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        grid.add_row(plain(name), plain(shown))
    return grid


def _subject(row: DecisionRow) -> str:
    named = " on ".join(filter(None, (row.variant, row.worker)))
    return named or row.hardware or row.inputs.get("task", "") or "everything"


def _ranges(partitions: Iterable[int]) -> str:
    """Format numbers as ranges: `0-3, 6`."""
    found: list[list[int]] = []
    for number in sorted(partitions):
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in found) or "none yet"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
