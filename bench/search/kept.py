"""Cases that the search has found and that are kept, with their causes; tests hold the policy to their figures."""

from collections.abc import Sequence
from math import isnan
from typing import Final, NamedTuple

from bench.markdown import paragraph, plot_link, table
from bench.results import LOSSES, origin
from bench.search.case import SECONDS, WARM_UP_S, SearchCase
from bench.search.verdict import CaseVerdict


class KeptCase(NamedTuple):
    """Case with the figures that the policy may not exceed."""

    name: str
    case: SearchCase
    violations: float
    usd_per_hour: float
    cause: str


KEPT: Final = (
    KeptCase(
        "two classes in overload",
        SearchCase(
            rate=40.0, arrivals="gamma", burst=8.0, strict_share=0.5, most_workers=1, hardware="cpu", seed=1
        ),
        0.37,
        0.39,
        "Slow, accurate queries fill the one worker. Until it was mended, predictions counted their backlog for fast "
        "queries, too, although a worker computes the most urgent query first: 70 % violations. Nothing is preempted, "
        "so a fast query, which has 200 ms, still waits for the end of a slow batch, which takes 160 ms or more.",
    ),
    KeptCase(
        "offline queries beside accurate ones",
        SearchCase(
            rate=4.0, arrivals="markov", period_s=30.0, tasks=2, accuracy=0.9, offline_share=0.8, most_workers=1,
            hardware="cpu", seed=5,
        ),
        0.05,
        0.39,
        "Mended: an online query was predicted to wait for a running offline batch even if other slots were free, and "
        "refused: 31 % violations with 9 % of the slots in use.",
    ),
    KeptCase(
        "the only worker dies",
        SearchCase(fault="worker-dies"),
        0.61,
        0.24,
        "The load needs one worker. Its restart takes 30 s and the load of a model one more. A trade: a second worker "
        "would cost as much again. Until it was mended, models loaded in the order of their names: 75 % violations.",
    ),
    KeptCase(
        "no status for ten seconds",
        SearchCase(fault="statuses-stop"),
        0.12,
        0.24,
        "A worker counts as gone a second after its last status, and its queries are refused. A trade: otherwise those "
        "of a worker that has died would wait until their deadline.",
    ),
    KeptCase(
        "two selectors of one worker",
        SearchCase(accuracy=0.6, selectors=2, hardware="cpu"),
        0.005,
        0.78,
        "Mended: each selector judged by its own queries alone if upgrades leave room, so they filled the worker. With "
        "eight selectors two of five queries were upgraded, and 6.5 % violated.",
    ),
    KeptCase(
        "bursts with seconds to spare",
        SearchCase(arrivals="gamma", burst=8.0, latency_ms=5000.0, accuracy=0.9, hardware="cpu"),
        0.01,
        3.2,
        "The fleet is sized for the rate of a burst of a second or two, which a deadline of 5 s would let wait.",
    ),
)  # fmt: skip
"""Worst cases by cause."""


def page(verdicts: Sequence[CaseVerdict]) -> str:
    """Format docs/losses.md from the verdicts on the kept cases, in their order."""
    paragraphs = [
        "`make bench-search` searches for workloads under which the production policy does badly: over rates, "
        "burstiness, needs, tasks, offline share, tenants, batch sizes, selectors, gateways, faults and limits of the "
        f"fleet, in simulations of {SECONDS:.0f} s, the first {WARM_UP_S:.0f} s left out, on a sixth of the shipped "
        "catalogue. It maximizes the violations beyond those of the better of STATIC and INDV at no higher cost, the "
        "price over the oracle's, and the queries that were refused although an instance was idle or that starved, and "
        "simplifies the worst. One case of each cause is kept; `tests/unit/simulator/test_kept_cases.py` holds the "
        "policy to its figures. The policy was changed until it met them: they tell nothing of other loads, for which "
        "[systems](systems.md) names the seeds and loads of tuning.",
        f"`make bench-search BENCH=--kept` writes this page. Commit {origin()}. *Baseline* is the "
        "better of STATIC and INDV, if one is as cheap; *oracle* the fewest violations at the same price; *bound* the "
        "price over the least price of any system with as few violations.",
    ]
    rows: list[list[str]] = []
    causes: list[str] = []
    for kept, verdict in zip(KEPT, verdicts, strict=True):
        shares = map(_share, (verdict.violations, verdict.baseline, verdict.oracle))
        rows.append([kept.name, *shares, f"{verdict.usd_per_hour:.3f}", f"{verdict.bound:.2f}"])
        changes = ", ".join(f"{name} {value}" for name, value in kept.case.changes().items())
        causes.append(paragraph(f"* **{kept.name}** ({changes}). {kept.cause}", "  "))
    lines = table(["case", "violations", "baseline", "oracle", "USD/h", "bound"], "lrrrrr", rows)
    plot = plot_link(LOSSES, "Violations of each case, ours beside those of the baseline and the oracle")
    parts = ["# Where it loses", *map(paragraph, paragraphs), plot, "\n".join(lines), "\n".join(causes)]
    return "\n\n".join(parts) + "\n"


def _share(value: float) -> str:
    return "-" if isnan(value) else f"{value:.2%}"
