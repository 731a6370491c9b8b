"""Tests of the plots that are drawn from the tables of pages."""

from pathlib import Path

import pytest

from bench.markdown import details, plot_of, table
from bench.page_plots import (
    PLOTTED,
    FigureError,
    PageTable,
    draw,
    errors_of_figures,
    number_in,
    tables_of,
    worth_of_mechanisms,
)

WORTH = "Worth of each mechanism"


def test_tables_of_reads_open_and_folded_tables_below_their_headings() -> None:
    lines = ["# Page", *table(["a", "b"], "lr", [["1", "2"]]), "## Part", "### Section", "text"]
    lines += details("more", table(["c"], "l", [["3"], ["4"]]))
    assert tables_of("\n".join(lines)) == [
        PageTable("", "Page", [{"a": "1", "b": "2"}]),
        PageTable("Part", "Section", [{"c": "3"}, {"c": "4"}]),
    ]


@pytest.mark.parametrize(
    ("text", "number"), [("4.85%", 4.85), ("1,000", 1000.0), ("23.65%, p99 114 ms", 23.65), ("-", None), ("", None)]
)
def test_number_in_returns_the_first_number(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_worth_of_mechanisms_takes_differences_for_worse() -> None:
    rows = [
        {"without": name, "violations": text}
        for name, text in {"a": "+2.4 ±0.1 pp; -1.0 ±0.2 pp", "b": "-3.0 ±0.1 pp", "c": "", "d": "+1.1 ±0.4 pp"}.items()
    ]
    assert worth_of_mechanisms([PageTable(WORTH, "Worker", rows), PageTable("By workload", "x", rows)]) == [
        ("d", 1.1, 0.4),
        ("a", 2.4, 0.1),
    ]


def test_errors_of_figures_says_what_is_off() -> None:
    row = {"scenario": "`low`", "p50_ms": "**46.41, 38.35 (17%, 1%)**", "changes": "0, 0 (-, 0%)"}
    assert errors_of_figures([PageTable("", "", [row])]) == {
        "p50_ms": {"low": FigureError(17.0, is_off=True)},
        "changes": {"low": FigureError(0.0, is_off=False)},
    }


@pytest.mark.parametrize("page", PLOTTED, ids=lambda page: page.stem)
def test_plot_is_that_of_its_page(page: Path, tmp_path: Path) -> None:
    draw(page, tmp_path / "plot.svg")
    shown = plot_of(page)
    assert (tmp_path / "plot.svg").read_bytes() == shown.read_bytes(), "make bench-plots draws it"
    assert f"](plots/{shown.name})" in page.read_text()
