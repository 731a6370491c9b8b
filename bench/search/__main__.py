"""`make bench-search`: searches for cases in which the production policy does badly; `--kept` writes docs/losses.md."""

import argparse

from rich.console import Console

from bench.page_plots import draw
from bench.results import LOSSES
from bench.search.hill_climb import climb, shrink
from bench.search.kept import KEPT, page
from bench.search.verdict import CaseVerdict, excess, insanity, judge, overspending
from simulator.replications import spawned_pool

_SCORES = {"excess violations": excess, "cost": overspending, "sanity": insanity}


def main() -> None:
    """Search, or write the page."""
    parser = argparse.ArgumentParser(prog="bench.search", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="rounds of twelve cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worst", type=int, default=3, help="number of cases to shrink for each score")
    parser.add_argument("--kept", action="store_true", help="simulate the kept cases, and write the page")
    asked, console = parser.parse_args(), Console()
    with spawned_pool() as pool:
        if asked.kept:
            LOSSES.write_text(page(list(pool.map(judge, [kept.case for kept in KEPT]))))
            draw(LOSSES)
            return
        found = climb(_SCORES.values(), asked.rounds, asked.seed, pool)
        for name, score in _SCORES.items():
            console.print(f"{name}:")
            for verdict in sorted(found, key=score, reverse=True)[: asked.worst]:
                show(console, shrink(verdict, score, pool))


def show(console: Console, verdict: CaseVerdict) -> None:
    """Print a verdict."""
    console.print({k: v for k, v in verdict._asdict().items() if k != "case"}, verdict.case.changes(), soft_wrap=True)


if __name__ == "__main__":
    main()
