"""Scale: instances and workers over time, each decision with its inputs and reason, pins, pause and resume."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from admin.activity import CountSeries, ScaleTimeline, timeline
from admin.api import Empty
from admin.scaling import ScaleHold, explain, pause, pin, resume, status, unpin
from gateway.console.page import Act, ActOutcome, Page, paged
from gateway.console.visit import Visit
from schemas.access import Role
from schemas.hardware import Hardware
from schemas.rows.cluster import Pin

_MINUTES: Final = 60
_MOST_SERIES: Final = 7
_MOST_INPUTS: Final = 400
"""Maximum number of characters of a decision's inputs in a list; its own page shows all."""


async def _load(visit: Visit) -> dict[str, Any]:
    cluster = await visit.call(status)
    found = await visit.call(timeline, minutes=_MINUTES, decisions=200)
    return {
        "control": cluster.control,
        "wanted": cluster.wanted,
        "states": Counter(row.state.value for row in cluster.instances),
        **paged(visit, "pins", cluster.pins),
        **paged(visit, "workers", cluster.workers),
        **paged(visit, "instances", cluster.instances),
        **paged(visit, "decisions", found.decisions, 10),
        "plot": scale_plot(found),
        "most_inputs": _MOST_INPUTS,
        "hardware": [one.value for one in Hardware],
    }


def scale_plot(found: ScaleTimeline) -> dict[str, Any]:
    """Return the plot of the numbers of instances and workers; the times of decisions are marks. Pure."""
    return {
        "kind": "stacked",
        "unit": "number",
        "x": [int(at.timestamp()) for at in found.times],
        "series": [
            *({"name": f"workers, {one.name}", "y": one.counts} for one in with_rest(found.workers, _MOST_SERIES)),
            *({"name": one.name, "y": one.counts} for one in with_rest(found.instances, _MOST_SERIES)),
        ],
        "marks": [int(row.at.timestamp()) for row in found.decisions],
    }


def with_rest(series: Sequence[CountSeries], most: int) -> list[CountSeries]:
    """Return the first series, and the sum of all others as the last one. Pure."""
    rest = series[most - 1 :]
    if len(rest) < 2:
        return list(series)
    total = [sum(counts) for counts in zip(*(one.counts for one in rest), strict=True)]
    return [*series[: most - 1], CountSeries(name=f"{len(rest)} others", counts=total)]


async def _load_explanation(visit: Visit) -> dict[str, Any]:
    about = visit.text("about")
    return {"about": about, "rows": await visit.call(explain, about=about, latest=5)}


def _tell_pin(made: Pin) -> ActOutcome:
    return ActOutcome(f"Pinned {made.kind} {made.name}: {made.bounds}.")


def _tell_unpin(_done: Empty) -> ActOutcome:
    return ActOutcome("Removed the pin: load alone decides again.")


def _tell_hold(hold: ScaleHold) -> ActOutcome:
    changed = "" if hold.changed else " already"
    return ActOutcome(f"Scaling is{changed} {'paused' if hold.paused else 'active'}.", changed=hold.changed)


PAGES: Final = (
    Page(
        path="/console/scale",
        title="Scale",
        template="scale.html",
        load=_load,
        live=("state", "timeline", "decisions", "pins", "workers", "instances"),
        role=Role.ADMIN,
        menu="Scale",
    ),
    Page(
        path="/console/scale/explanation",
        title="Explanation of scale",
        template="scale_explanation.html",
        load=_load_explanation,
        role=Role.ADMIN,
    ),
)
ACTS: Final = (
    Act("/console/scale/pin", pin, _tell_pin),
    Act("/console/scale/unpin", unpin, _tell_unpin),
    Act("/console/scale/pause", pause, _tell_hold),
    Act("/console/scale/resume", resume, _tell_hold),
)
