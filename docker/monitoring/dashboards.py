"""Writes the dashboard of Grafana: `python docker/monitoring/dashboards.py`."""

from pathlib import Path
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh

FILE: Final = Path(__file__).parent / "grafana/dashboards/infaas.json"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")


class PromQuery(NamedTuple):
    """A query in PromQL and the legend of its series."""

    expression: str
    legend: str
    exemplars: bool = False
    """True to draw the traces of single queries as points, from which Grafana leads to the trace."""


class Chart(NamedTuple):
    """A panel with the unit of its values, as Grafana names it."""

    title: str
    unit: str
    queries: tuple[PromQuery, ...]


def _quantiles(metric: str, by: str, where: str = "") -> tuple[PromQuery, ...]:
    """Return the median and the 99th percentile of a histogram with exemplars, by a label."""
    return tuple(
        PromQuery(
            f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{where}[$__rate_interval])))",
            f"{{{{{by}}}}} {name}",
            exemplars=name == "p99",  # once: both queries read the same buckets
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )


_TASK: Final = '{task=~"$task"}'
CHARTS: Final[dict[str, tuple[Chart, ...]]] = {
    "Tasks": (
        Chart(
            "Queries by outcome",
            "reqps",
            (
                PromQuery(
                    f"sum by (task, outcome) (rate(infaas_selector_decisions_total{_TASK}[$__rate_interval]))",
                    "{{task}} {{outcome}}",
                ),
            ),
        ),
        Chart("Refused or late", "percentunit", (PromQuery(f"infaas:violations:ratio_rate5m{_TASK}", "{{task}}"),)),
        Chart("Time to the answer, HTTP and gRPC", "s", _quantiles("infaas_gateway_request_seconds", "model")),
        Chart(
            "Reasons of refusals",
            "reqps",
            (
                PromQuery(
                    'sum by (reason) (rate(infaas_selector_decisions_total{reason!=""}[$__rate_interval])) '
                    'or sum by (reason) (rate(infaas_gateway_requests_total{reason!=""}[$__rate_interval]))',
                    "{{reason}}",
                ),
            ),
        ),
    ),
    "Variants": (
        Chart(
            "Queries by variant",
            "reqps",
            (PromQuery("sum by (variant) (rate(infaas_worker_queries_total[$__rate_interval]))", "{{variant}}"),),
        ),
        Chart("Time in the queue", "s", _quantiles("infaas_worker_queue_seconds", "variant")),
        Chart("Time of a batch", "s", _quantiles("infaas_worker_compute_seconds", "variant")),
        Chart(
            "Inputs in a batch, mean",
            "short",
            (
                PromQuery(
                    "sum by (variant) (rate(infaas_worker_batch_inputs_sum[$__rate_interval])) "
                    "/ sum by (variant) (rate(infaas_worker_batch_inputs_count[$__rate_interval]))",
                    "{{variant}}",
                ),
            ),
        ),
        Chart("Backlog", "short", (PromQuery("sum by (variant) (infaas_selector_backlog_inputs)", "{{variant}}"),)),
        Chart(
            "Measured over profiled time",
            "short",
            (PromQuery("avg by (variant) (infaas_worker_latency_correction_ratio)", "{{variant}}"),),
        ),
    ),
    "Scaling": (
        Chart(
            "Workers by state",
            "short",
            (PromQuery("sum by (hardware, state) (infaas_autoscaler_workers)", "{{hardware}} {{state}}"),),
        ),
        Chart("Instances by state", "short", (PromQuery("sum by (state) (infaas_worker_instances)", "{{state}}"),)),
        Chart(
            "Changes of the wanted state",
            "short",
            (PromQuery("sum by (action) (increase(infaas_autoscaler_changes_total[$__rate_interval]))", "{{action}}"),),
        ),
        Chart(
            "Age of the oldest waiting query",
            "s",
            (PromQuery("max by (topic) (kafka_consumergroup_group_lag_seconds)", "{{topic}}"),),
        ),
    ),
    "Services": (
        Chart(
            "Delay of the event loop, p99",
            "s",
            (
                PromQuery(
                    "histogram_quantile(0.99, sum by (le, instance) "
                    "(rate(infaas_event_loop_delay_seconds_bucket[$__rate_interval])))",
                    "{{instance}}",
                ),
            ),
        ),
        Chart(
            "Queries in flight",
            "short",
            (
                PromQuery("sum by (instance) (infaas_selector_in_flight_queries)", "selector {{instance}}"),
                PromQuery("sum by (instance) (infaas_gateway_in_flight)", "gateway {{instance}}"),
            ),
        ),
        Chart(
            "CPU",
            "short",
            (PromQuery('rate(process_cpu_seconds_total{job="infaas"}[$__rate_interval])', "{{instance}}"),),
        ),
        Chart("Memory", "bytes", (PromQuery('process_resident_memory_bytes{job="infaas"}', "{{instance}}"),)),
        Chart(
            "Dead letters",
            "short",
            (PromQuery("sum by (topic) (infaas_dead_letters_total) or vector(0)", "{{topic}}"),),
        ),
        Chart(
            "Registrations",
            "short",
            (PromQuery("sum by (outcome) (infaas_registrar_processes_total)", "{{outcome}}"),),
        ),
    ),
}
"""Panels by row."""


def dashboard() -> Dashboard:
    """Return the dashboard."""
    found = (
        Dashboard("INFaaS")
        .uid("infaas")
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("task")
            .label("Task")
            .datasource(_SOURCE)
            .query("label_values(infaas_selector_decisions_total, task)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
        )
    )
    for title, charts in CHARTS.items():
        found = found.with_row(Row(title))
        for chart in charts:
            found = found.with_panel(_panel(chart))
    return found


def _panel(chart: Chart) -> TimeSeries:
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = TimeSeries().title(chart.title).unit(chart.unit).datasource(_SOURCE).min(0).span(8).height(8)
    panel = panel.legend(legend.show_legend(show_legend=True))
    for query in chart.queries:
        target = Dataquery().expr(query.expression).legend_format(query.legend)
        panel = panel.with_target(target.exemplar(exemplar=True) if query.exemplars else target)
    return panel


def encoded() -> str:
    """Return the content of the dashboard's file."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard().build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(encoded())
