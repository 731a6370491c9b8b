"""Report of a campaign: a table for the terminal, an HTML page, and the figures as JSON."""

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from tests.chaos.campaign import CampaignReport, FaultReport
from tests.chaos.resources import ResourceUse

_COLUMNS: Final = (
    "fault",
    "at s",
    "lasted s",
    "answers after s",
    "all after s",
    "lost",
    "shown twice",
    "asked",
    "memory MiB",
    "disk MiB",
)
_NOT_OURS: Final = ("kafka", "postgres", "clients")
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
.bad { color: #b00020; font-weight: 600 } .good { color: #0a7d32; font-weight: 600 }
"""


def fault_table(faults: Iterable[FaultReport]) -> Table:
    """Return the table of the faults' results."""
    table = Table(*_COLUMNS)
    for fault in faults:
        table.add_row(*_cells(fault), style="bold red" if fault.lost or fault.recovered_s is None else "")
    return table


def summary(report: CampaignReport) -> list[tuple[str, str]]:
    """Return the lines of the campaign's summary: name and text."""
    outcomes = (f"{client}: {_counts(counts)}" for client, counts in sorted(report.outcomes.items()))
    return [
        ("verdict", report.verdict),
        ("queries", f"{report.asked:,} at {report.rate:g}/s in {report.minutes:.1f} min, seed {report.seed}"),
        ("faults", f"{len(report.faults)}"),
        ("faults not inflicted", "; ".join(f"{f.fault}: {f.problem}" for f in report.faults if f.problem) or "none"),
        ("lost", f"{report.lost}"),
        ("shown twice", f"{report.shown_twice}"),
        ("results written twice, for readers of the log", f"{report.repeated}"),
        ("consumers behind at the end", _counts(report.behind) or "none"),
        ("places still held at the gateway", f"{report.waiting}"),
        ("ended only as a dead letter", _counts(report.dead_letters) or "none"),
        *(("answered", line) for line in outcomes),
        ("memory MiB, before", _counts(report.memory_mib)),
        ("memory MiB, after", _counts(report.faults[-1].memory_mib) if report.faults else ""),
        *(("before", line) for line in _resources(report.began_with)),
        *(("after", line) for line in _resources(report.ended_with)),
    ]


def _resources(use: ResourceUse | None) -> list[str]:
    if use is None:
        return []
    return [
        f"open files: {_counts(use.open_files)}",
        f"rows: {_counts(use.rows)}",
        f"topics {use.topics}, partitions {use.partitions}",
    ]


def write_report(report: CampaignReport, folder: Path) -> Path:
    """Write `report.json` and `report.html` into a folder. Returns the path of the page.

    Each file is replaced atomically, so that a kill during a write leaves the previous one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return _replace(folder / "report.html", _page(report).encode())


def _replace(path: Path, content: bytes) -> Path:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    return partial.rename(path)


def _page(report: CampaignReport) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in _COLUMNS)
    rows = "".join(
        f"<tr class='{'bad' if fault.lost or fault.recovered_s is None else ''}'>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(fault))
        + "</tr>\n"
        for fault in report.faults
    )
    facts = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>\n" for k, v in summary(report))
    verdict = f"<span class='{'good' if report.passed else 'bad'}'>{report.verdict}</span>"
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Faults under load</title>"
        f"<style>{_STYLE}</style><h1>Faults under load: {verdict}</h1><table>{facts}</table>"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></html>\n"
    )


def _cells(fault: FaultReport) -> list[str]:
    recovered = "never" if fault.recovered_s is None else f"{fault.recovered_s:.1f}"
    memory = sum(mib for kind, mib in fault.memory_mib.items() if kind not in _NOT_OURS)
    counts = (fault.lost, fault.shown_twice, fault.asked)
    return [
        fault.fault,
        f"{fault.at_s:.0f}",
        f"{fault.lasted_s:.1f}",
        recovered,
        f"{fault.settled_s:.1f}",
        *(f"{n:,}" for n in counts),
        f"{memory:,.0f}",
        f"{fault.disk_mib:,.0f}",
    ]


def _counts(counts: dict[str, int] | dict[str, float]) -> str:
    return ", ".join(f"{name} {count:,.0f}" for name, count in sorted(counts.items()))
