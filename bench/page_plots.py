"""Plots of the pages of simulated figures, drawn from the tables of each page: `make bench-plots` redraws all.

A page is the only copy of its figures. The command that writes a page draws its plot, and a plot can be improved
without another run of half an hour.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.markdown import plot_of
from bench.plots import save, subplots
from bench.results import ABLATION, CALIBRATION, LOSSES, SELECTORS, SYSTEMS
from simulator.calibration.comparison import GOALS

_NUMBER: Final = re.compile(r"[-+]?\d[\d,]*\.?\d*")
_OURS: Final = "infaas"
_COLUMNS: Final = 4
_LEAST_PP: Final = 1.0
_FLOOR: Final = 0.01
"""Least share of violations in percent that a logarithmic axis shows; lower ones stand there."""


_VIOLATIONS: Final = f"violations, % (0: at {_FLOOR})"


class PageTable(NamedTuple):
    """A table of a page below its heading."""

    part: str
    """Heading of the second level."""
    title: str
    """Nearest heading."""
    rows: list[dict[str, str]]
    """Cells by the titles of their columns."""


def tables_of(page: str) -> list[PageTable]:
    """Return the tables of a page in Markdown."""
    found, part, title = list[PageTable](), "", ""
    titles: list[str] = []
    for line in page.splitlines():
        heading = re.match(r"(#+) (.+)", line)
        if heading is not None:
            title = heading[2]
            part = title if heading[1] == "##" else part
        if not line.startswith("|"):
            titles = []
        elif not titles:
            titles = _cells(line)
            found.append(PageTable(part, title, []))
        elif not line.startswith("|---"):
            found[-1].rows.append(dict(zip(titles, _cells(line), strict=True)))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def number_in(text: str) -> float | None:
    """Return the first number of a cell; None if it has none."""
    found = _NUMBER.search(text)
    return None if found is None else float(found[0].replace(",", ""))


def draw(page: Path, file: Path | None = None) -> None:
    """Draw the plot of a page, by default into the file that the page shows."""
    _PLOTS[page](tables_of(page.read_text()), file or plot_of(page))


def _logarithmic(axis: Any) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")


# -- ablation ----------------------------------------------------------------------------------------------------------


def worth_of_mechanisms(tables: Sequence[PageTable]) -> list[tuple[str, float, float]]:
    """Return the mechanisms with the points of violations that each prevents at most, and their deviation."""
    found: list[tuple[str, float, float]] = []
    for table in tables:
        if table.part != "Worth of each mechanism":
            continue
        for row in table.rows:
            worst = re.match(r"\+([\d.]+) ±([\d.]+) pp", row["violations"])
            if worst is not None and float(worst[1]) >= _LEAST_PP:
                found.append((row["without"], float(worst[1]), float(worst[2])))
    return sorted(found, key=lambda one: one[1])


def _draw_ablation(tables: Sequence[PageTable], file: Path) -> None:
    worth = worth_of_mechanisms(tables)
    figure, axes = subplots(1, 1, (9, 0.22 * len(worth) + 1))
    names, points, spreads = zip(*worth, strict=True)
    bars = axes[0, 0]
    drawn = bars.barh(names, points, xerr=spreads, color="tab:blue", error_kw={"ecolor": "0.4", "elinewidth": 0.8})
    bars.bar_label(drawn, padding=3, fontsize=8)
    bars.set_xlim(0, 1.08 * points[-1])
    bars.set_ylim(-0.7, len(worth) - 0.3)
    bars.set_xlabel("violations without it: more by percentage points")
    save(figure, file)


# -- selectors ---------------------------------------------------------------------------------------------------------


def _draw_selectors(tables: Sequence[PageTable], file: Path) -> None:
    rows = tables[0].rows
    load = max(name for name in rows[0] if name.startswith("load"))
    fleets = list(dict.fromkeys(row["workers"] for row in rows))
    figure, axes = subplots(1, len(fleets), (4.5 * len(fleets), 3.6), sharey=True)
    for axis, workers in zip(axes[0], fleets, strict=True):
        for choice in dict.fromkeys(row["choice"] for row in rows):
            shown = [row for row in rows if row["workers"] == workers and row["choice"] == choice]
            points = [(row["selectors"], number_in(row[load])) for row in shown]
            known = [(int(selectors), max(share, _FLOOR)) for selectors, share in points if share is not None]
            if known:
                axis.plot(*zip(*known, strict=True), marker="o", label=choice)
        axis.set_title(f"{workers} workers, {load}")
        axis.set_xscale("log")
        axis.set_xticks([1, 8, 40], ["1", "8", "40"])
        axis.minorticks_off()
        _logarithmic(axis)
        axis.set_xlabel("selectors")
    axes[0, 0].set_ylabel(_VIOLATIONS)
    axes[0, 0].legend()
    save(figure, file)


# -- systems -----------------------------------------------------------------------------------------------------------


def _draw_systems(tables: Sequence[PageTable], file: Path) -> None:
    shown = [table for table in tables if table.part.startswith("Cost and violations")]
    figure, axes = subplots(ceil(len(shown) / _COLUMNS), _COLUMNS, (14, 3.1 * ceil(len(shown) / _COLUMNS)), sharey=True)
    names = list(dict.fromkeys(row["system"] for table in shown for row in table.rows))
    colors = [f"C{number}" for number in range(1, len(names))]
    style: dict[str, Any] = {_OURS: {"marker": "*", "s": 130, "color": "C0", "zorder": 3}}
    style |= {name: {"marker": "o", "color": color} for name, color in zip(names[1:], colors, strict=True)}
    for axis, table in zip(axes.flat, shown, strict=False):
        for row in table.rows:
            price, violations = number_in(row["USD/h"]), number_in(row["violations"])
            axis.scatter(price, max(violations or 0.0, _FLOOR), label=row["system"], **style[row["system"]])
        axis.set_title(table.title, fontsize=10)
        _logarithmic(axis)
        axis.set_xlim(0, 1.1 * max(number_in(row["USD/h"]) or 0.0 for row in table.rows))
    for axis in axes[:, 0]:
        axis.set_ylabel(_VIOLATIONS)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis in axes.flat[max(len(shown) - _COLUMNS, 0) : len(shown)]:
        axis.set_xlabel("USD/h")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[-1, -1].legend(handles, labels, loc="center", frameon=False)
    save(figure, file)


# -- losses ------------------------------------------------------------------------------------------------------------


def _draw_losses(tables: Sequence[PageTable], file: Path) -> None:
    rows = tables[0].rows[::-1]
    figure, axes = subplots(1, 1, (9, 0.6 * len(rows) + 1))
    bars = axes[0, 0]
    series = (("oracle", "0.75"), ("baseline", "0.5"), ("violations", "tab:blue"))
    for offset, (name, color) in zip((-0.26, 0.0, 0.26), series, strict=True):
        values = [number_in(row[name]) or 0.0 for row in rows]
        places = [place + offset for place in range(len(rows))]
        bars.barh(places, values, 0.26, color=color, label=_OURS if name == "violations" else name)
    bars.set_yticks(range(len(rows)), [row["case"] for row in rows])
    bars.set_xlabel("violations, %")
    bars.legend(reverse=True)
    save(figure, file)


# -- calibration -------------------------------------------------------------------------------------------------------


class FigureError(NamedTuple):
    """Error of a simulated figure."""

    percent: float
    """0 if it has no value, because the real mean is 0."""
    is_off: bool
    """True if it is in bold: beyond its goal and the noise."""


def errors_of_figures(tables: Sequence[PageTable]) -> dict[str, dict[str, FigureError]]:
    """Return the errors of the simulation, by figure and scenario."""
    rows = next(table.rows for table in tables if "p50_ms" in table.rows[0])
    found: dict[str, dict[str, FigureError]] = {name: {} for name in rows[0] if name != "scenario"}
    for row in rows:
        for name, of_scenarios in found.items():
            error = re.search(r"\((\d+)%", row[name])
            shown = FigureError(float(error[1]) if error else 0.0, row[name].startswith("**"))
            of_scenarios[row["scenario"].strip("`")] = shown
    return found


def _draw_calibration(tables: Sequence[PageTable], file: Path) -> None:
    errors = errors_of_figures(tables)
    figure, axes = subplots(1, len(errors), (2.3 * len(errors), 3.6), sharex=True, sharey=True)
    for axis, (name, by_scenario) in zip(axes[0], errors.items(), strict=True):
        colors = ["tab:red" if error.is_off else "tab:blue" for error in by_scenario.values()]
        axis.barh(list(by_scenario), [error.percent for error in by_scenario.values()], color=colors)
        axis.axvline(100 * GOALS[name], color="0.4", linestyle="--", linewidth=0.8)
        axis.set_title(name)
        axis.set_xlabel("error, %")
    axes[0, 0].invert_yaxis()
    save(figure, file)


_PLOTS: Final[Mapping[Path, Callable[[Sequence[PageTable], Path], None]]] = {
    ABLATION: _draw_ablation,
    SELECTORS: _draw_selectors,
    SYSTEMS: _draw_systems,
    LOSSES: _draw_losses,
    CALIBRATION: _draw_calibration,
}
PLOTTED: Final = tuple(_PLOTS)
"""Pages with a plot."""


def main() -> None:
    """Draw the plots of all pages."""
    for page in PLOTTED:
        draw(page)


if __name__ == "__main__":
    main()
