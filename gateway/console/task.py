"""A task: accuracy, latency and cost of its variants with their shares of queries, its load, and a form that asks."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from admin.activity import LoadHistory, task_load
from admin.catalog import ListedModel, comparison, models, tasks
from admin.overview import overview
from gateway.console.page import Page, paged
from gateway.console.visit import Visit
from registry.comparison import ComparedPoint
from schemas.errors import NotFound
from schemas.hardware import priced_unit
from schemas.rows.catalog import DecodeImage, Task, Tokenise

_SECONDS: Final = 60
_MOST_POINTS: Final = 100
"""Maximum number of points of a plot; the used ones and the frontier come first."""
_MOST_CLASSES: Final = 6


class FrontierPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Variant in the plot of its task."""

    variant: str
    label: str
    accuracy: float
    latency_ms: float
    cost: float
    share: float
    """Share of the task's answers, 0..1."""
    best: bool
    """True if no other variant is at least as good in accuracy, latency and cost, and better in one of them."""
    beaten_by: str = ""
    """Variant of the frontier that is better; empty for those of the frontier."""


class AskField(msgspec.Struct, frozen=True, kw_only=True):
    """Input of a task as a field of the form."""

    name: str
    kind: str
    """`text`, `image` or `json`."""
    hint: str
    example: str = ""


def frontier(compared: Sequence[ComparedPoint], shares: Mapping[str, float]) -> list[FrontierPoint]:
    """Return the points of the plot, the used ones and the frontier first. Pure."""
    best: list[ComparedPoint] = []
    points: list[FrontierPoint] = []
    ordered = sorted(
        compared, key=lambda one: (one.latency_s, -one.accuracy, one.cost)
    )  # none is beaten by a later one
    for one in ordered:
        beaten_by = next((other.variant for other in best if _beats(other, one)), "")
        if not beaten_by:
            best.append(one)
        points.append(
            FrontierPoint(
                variant=one.variant,
                label=f"{one.architecture} {one.label}",
                accuracy=one.accuracy,
                latency_ms=one.latency_s * 1e3,
                cost=one.cost,
                share=shares.get(one.variant, 0.0),
                best=not beaten_by,
                beaten_by=beaten_by,
            )
        )
    return sorted(points, key=lambda one: (-one.share, not one.best, -one.accuracy, one.latency_ms))


def _beats(one: ComparedPoint, other: ComparedPoint) -> bool:
    """Return whether a variant that is at least as fast is at least as good, and better in something. Pure."""
    is_equal = (one.accuracy, one.cost, one.latency_s) == (other.accuracy, other.cost, other.latency_s)
    return one.accuracy >= other.accuracy and one.cost <= other.cost and not is_equal


def frontier_plot(points: Sequence[FrontierPoint]) -> dict[str, Any]:
    """Return the plot of accuracy against latency and cost; shares are in percent. Pure."""
    shown = sorted(points[:_MOST_POINTS], key=lambda one: one.latency_ms)
    return {
        "kind": "frontier",
        "x": [round(one.latency_ms, 3) for one in shown],
        "y": [round(one.accuracy, 4) for one in shown],
        "cost": [float(f"{one.cost:.3g}") for one in shown],
        "share": [round(one.share * 100, 1) for one in shown],
        "best": [int(one.best) for one in shown],
        "names": [one.label for one in shown],
    }


def load_plot(load: LoadHistory) -> dict[str, Any]:
    """Return the plot of queries a second by class, of the most used classes. Pure.

    An interval that the readings do not cover is left out: its count is a part, which would look like a drop.
    """
    until_s = load.until.timestamp() if load.until is not None else 0.0
    whole = sum(at.timestamp() + load.step_s <= until_s for at in load.times)
    return {
        "kind": "lines",
        "unit": "queries/s",
        "x": [int(at.timestamp()) for at in load.times[:whole]],
        "series": [
            {"name": class_name(one), "y": [round(count / load.step_s, 2) for count in one.queries[:whole]]}
            for one in load.classes[:_MOST_CLASSES]
        ],
    }


def class_name(one: Any) -> str:
    """Return the needs of a load class as text. Pure."""
    needs = [f"≥ {one.min_accuracy:.3g}"] if one.min_accuracy else []
    needs += [f"≤ {one.latency_ms:.3g} ms"] if one.latency_ms is not None else []
    needs += [one.target] if one.target else []
    return ("offline " if one.offline else "") + (", ".join(needs) or "any")


def ask_fields(task: Task, of_task: Sequence[ListedModel]) -> list[AskField]:
    """Return the fields for the inputs of a task. Pure."""
    steps = [model.processing.before for model in of_task if model.processing is not None]
    if len(task.inputs) == 1 and task.inputs[0].datatype == "BYTES":
        spec = task.inputs[0]
        if any(isinstance(step, DecodeImage) for step in steps):
            return [AskField(name=spec.name, kind="image", hint="A PNG or JPEG file: choose one, or drop it here.")]
        if not steps or any(isinstance(step, Tokenise) for step in steps):
            prompt = "Why is the sky blue?" if task.is_generative else "I liked it a lot."
            return [AskField(name=spec.name, kind="text", hint="A text.", example=prompt)]
    return [
        AskField(
            name=spec.name,
            kind="json",
            hint=f"{spec.datatype} {list(spec.shape)} as a JSON list; its shape follows from the lists.",
            example=_zeros(spec.shape, spec.datatype),
        )
        for spec in task.inputs
        if not spec.parameter
    ]


def _zeros(shape: Sequence[int], datatype: str) -> str:
    """Return a value of zeros if it is short, with size 1 for variable dimensions."""
    sizes = [max(size, 1) for size in shape]
    count = 1
    for size in sizes:
        count *= size
    if count > 4096:
        return ""
    value: Any = {"BYTES": "", "BOOL": False}.get(datatype, 0)
    for size in reversed(sizes):
        value = [value] * size
    return msgspec.json.encode(value).decode()


async def _load(visit: Visit) -> dict[str, Any]:
    name = visit.request.match_info["task"]
    task = next((row for row in await visit.call(tasks) if row.name == name), None)
    if task is None:
        raise NotFound(f"there is no task {name[:80]!r}")
    of_task = await visit.call(models, task=name)
    try:
        compared = await visit.call(comparison, task=name)
    except NotFound:  # no variant is ready
        compared = []
    load = await visit.call(task_load, task=name, minutes=15) if visit.is_admin else None
    points = frontier(compared, await _shares(visit, name))
    return {
        "task": task,
        "unit": priced_unit(generative=task.is_generative),
        **paged(visit, "variants", points),
        "plot": frontier_plot(points),
        "load": load,
        "load_plot": None if load is None else load_plot(load),
        "fields": ask_fields(task, of_task),
        "targets": sorted({row.model for row in of_task}),
    }


async def _shares(visit: Visit, task: str) -> dict[str, float]:
    if not visit.is_admin:
        return {}
    found = await visit.call(overview, seconds=_SECONDS)
    return {one.variant: one.share for load in found.tasks if load.task == task for one in load.variants}


PAGES: Final = (
    Page(path="/console/tasks/{task}", title="Task", template="task.html", load=_load, live=("frontier", "load")),
)
