"""The dashboard's panels as Prometheus answers their queries, and the page `docs/dashboard.md` of their values.

`make dashboard-values` writes the page by the test of the dashboard.
"""

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.markdown import paragraph, table
from bench.results import origin
from schemas.topics import PREFIX

ROOT: Final = Path(__file__).parents[3]
MONITORING: Final = ROOT / "docker/monitoring"
_DASHBOARD: Final = json.loads((MONITORING / "grafana/dashboards/infaas.json").read_text())
_INTERVAL: Final = "10s"
"""Value of Grafana's variable for a rate."""
_UNITS: Final[Mapping[str, tuple[float, str]]] = {
    "reqps": (1, "/s"),
    "percentunit": (100, " %"),
    "s": (1000, " ms"),
    "bytes": (1e-6, " MB"),
    "short": (1, ""),
}
"""Factor and name of each unit in the page, by Grafana's name."""
_HEAD: Final = """\
Each query of the [dashboard](operation.md#dashboard-and-alerts) with its values in Prometheus, which scraped a system
under load: one variant of one task, {clients} clients that ask one query after another over HTTP, every tenth of which
no variant can answer in time. Written by `make dashboard-values` at commit {origin}."""


class PanelQuery(NamedTuple):
    """A query of a panel."""

    row: str
    title: str
    unit: str
    expression: str
    legend: str
    exemplars: bool

    @property
    def executable(self) -> str:
        """Expression with values for Grafana's variables."""
        return self.expression.replace("$__rate_interval", _INTERVAL).replace("$task", ".*")


class TaskVariable(NamedTuple):
    """The dashboard's variable of tasks: the values of a label of a metric."""

    metric: str
    label: str


def panel_queries() -> list[PanelQuery]:
    """Return all queries of the dashboard."""
    found, row = list[PanelQuery](), ""
    for panel in _DASHBOARD["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        for target in panel.get("targets", ()):
            unit, exemplars = panel["fieldConfig"]["defaults"]["unit"], target.get("exemplar", False)
            legend = target["legendFormat"]
            found.append(PanelQuery(row, panel["title"], unit, target["expr"], legend, exemplars))
    return found


def task_variable() -> TaskVariable:
    """Return the query of the variable `$task`."""
    query = next(one["query"] for one in _DASHBOARD["templating"]["list"] if one["name"] == "task")
    named = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    assert named is not None, query
    return TaskVariable(named[1], named[2])


Values = dict[PanelQuery, dict[str, float]]
"""Finite values of each query, by the legend of their series."""


async def values_of(get: Callable[..., Awaitable[Any]]) -> Values:
    """Execute each query; `get` asks Prometheus."""
    found: Values = {}
    for query in panel_queries():
        series = (await get("query", query=query.executable))["result"]
        values = {_legend(query, one["metric"]): float(one["value"][1]) for one in series}
        found[query] = {name: value for name, value in values.items() if math.isfinite(value)}
    return found


def _legend(query: PanelQuery, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), query.legend)


def write_page(file: str, values: Values, clients: int, namespace: str) -> None:
    """Write the page of the values, with the default namespace in place of the system's."""
    parts = [f"# Values of the dashboard\n\n{paragraph(_HEAD.format(clients=clients, origin=origin()))}\n"]
    for row, queries in groupby(values, lambda query: query.row):
        rows = [
            (query.title, f"`{query.expression}`".replace("|", "\\|"), _shown(query, values[query]))
            for query in queries
        ]
        parts.append(f"## {row}\n\n" + "\n".join(table(["panel", "query", "values"], "lll", rows)) + "\n")
    Path(file).write_text("\n".join(parts).replace(f"{namespace}.", PREFIX))


def _shown(query: PanelQuery, values: Mapping[str, float]) -> str:
    factor, unit = _UNITS[query.unit]
    ordered: Sequence[tuple[str, float]] = sorted(values.items())
    return ", ".join(f"{name} {value * factor:.3g}{unit}".strip() for name, value in ordered)
