"""`infaas scale`: current and wanted workers and instances, the autoscaler's decisions, pins, and pause."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Table

from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.control import call
from infaas.cli.output import CommandGroup, date_time, err, plain, show, show_json, table
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.scaling import (
    EXPLAIN,
    HISTORY,
    MAX_EXPLAINED,
    MAX_PINNED,
    PAUSE,
    PIN,
    RESUME,
    STATUS,
    UNPIN,
    DecisionsRequest,
    ExplanationRequest,
    PinRequest,
    ScaleHold,
    UnpinRequest,
)
from schemas.rows.cluster import ClusterRows
from schemas.rows.placement import WorkerRow
from schemas.rows.scaling import DecisionRow, Pin, PinKind

About = Annotated[str | None, typer.Argument(help="A task, an architecture, a variant, a worker or a hardware.")]
Kind = Annotated[
    PinKind, typer.Argument(help="Object to bound: instances of a task or variant, or workers of a hardware.")
]
Name = Annotated[str, typer.Argument(help="Name of the task, the variant or the hardware.")]
_LATEST: Final = 20

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Show scaling and its reasons; set bounds or pause.")


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Show workers and instances, wanted and running, pins, and whether scaling is paused."""
    scale = call(home, STATUS, Empty())
    if as_json:
        return show_json(scale)
    if scale.control.paused:
        by, at = scale.control.changed_by, date_time(scale.control.changed_at)
        show(f"[bold yellow]paused[/] by {plain(by)} at {at}; `infaas scale resume` ends it")
    show(_hardware_table(scale))
    show(_workers_table(scale))
    show(_instances_table(scale))
    return show(_pins_table(scale.pins)) if scale.pins else None


@app.command()
def history(
    about: About = None,
    latest: Annotated[int, typer.Option("--latest", "-n", min=1, max=10_000, help="How many.")] = _LATEST,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List scaling decisions with their reasons, the latest last."""
    rows = call(home, HISTORY, DecisionsRequest(about=about, latest=latest))
    if as_json:
        return show_json(rows)
    columns = ("at", "action", "subject", "policy", "reason")
    return show(table(columns, [(date_time(r.at), r.action, _subject(r), r.policy or "-", r.reason) for r in rows]))


@app.command()
def explain(
    about: Annotated[str, typer.Argument(help="A task, an architecture, a variant, a worker or a hardware.")],
    latest: Annotated[int, typer.Option("--latest", "-n", min=1, max=MAX_EXPLAINED, help="Number of decisions.")] = 1,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Show the last decision on a subject, with all of its inputs."""
    rows = call(home, EXPLAIN, ExplanationRequest(about=about, latest=latest))
    if as_json:
        return show_json(rows)
    for row in rows:
        show(_explanation(row))
    return None


@app.command()
def pin(
    kind: Kind,
    name: Name,
    minimum: Annotated[
        int | None, typer.Option("--min", min=0, max=MAX_PINNED, help="Minimum, even without load.")
    ] = None,
    maximum: Annotated[
        int | None, typer.Option("--max", min=0, max=MAX_PINNED, help="Maximum, regardless of load.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Set bounds on the instances of a task or a variant, or the workers of a hardware. Replaces earlier bounds."""
    made = call(home, PIN, PinRequest(kind=kind, name=name, minimum=minimum, maximum=maximum))
    show_json(made) if as_json else err.print(f"{kind} {name}: {made.bounds}", highlight=False)


@app.command()
def unpin(kind: Kind, name: Name, home: Home = DEFAULT_HOME) -> None:
    """Remove bounds; only load decides again."""
    call(home, UNPIN, UnpinRequest(kind=kind, name=name))
    err.print(f"{kind} {name} follows load", highlight=False)


@app.command()
def pause(home: Home = DEFAULT_HOME) -> None:
    """Pause scaling until `resume`, whatever the load. Processes that die are still replaced."""
    _tell(call(home, PAUSE, Empty()))


@app.command()
def resume(home: Home = DEFAULT_HOME) -> None:
    """Resume scaling by load."""
    _tell(call(home, RESUME, Empty()))


def _tell(hold: ScaleHold) -> None:
    state = "is paused" if hold.paused else "follows load"
    err.print(f"the scale {state}" + ("" if hold.changed else ", as before"), highlight=False)


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
    if not worker.alive:
        return "silent"
    return f"draining for {worker.draining_s:.0f} s" if worker.draining else "alive"


def _instances_table(scale: ClusterRows) -> Table:
    rows = [(r.variant, r.worker, r.state, _ranges(r.partitions), r.max_batch, r.reason) for r in scale.instances]
    return table(("instance", "worker", "state", "partitions", "batch>", "reason"), rows, title="Instances")


def _pins_table(pins: Iterable[Pin]) -> Table:
    rows = [(f"{p.kind} {p.name}", _or_dash(p.minimum), _or_dash(p.maximum), p.pinned_by) for p in pins]
    return table(("pinned", "min>", "max>", "by"), rows, title="Pins")


def _explanation(row: DecisionRow) -> Table:
    grid = Table.grid(padding=(0, 2))
    head = {
        "at": date_time(row.at),
        "action": f"{row.action} {_subject(row)}",
        "reason": row.reason,
        "policy": row.policy or "-",
    }
    for name, value in head.items():
        grid.add_row(f"[bold]{name}[/]", plain(value))
    for title, facts in (("inputs", row.inputs), ("plan", row.explanation)):
        if facts:
            grid.add_row(f"[bold]{title}[/]", _facts(facts))
    return grid


def _facts(facts: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
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
