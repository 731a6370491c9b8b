"""`make bench-selectors`: simulates many selectors, and writes docs/selectors.md."""

import argparse

from bench.page_plots import draw
from bench.results import SELECTORS
from bench.selectors.cell import measure
from bench.selectors.page import WORKERS, cells, page
from bench.simulations import run_jobs
from simulator.replications import spawned_pool


def main() -> None:
    """Simulate all cells, or those of the numbers of workers that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.selectors", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    planned = cells(parser.parse_args().workers)
    with spawned_pool() as pool:
        rows = run_jobs(pool, measure, planned, "simulating")
    SELECTORS.write_text(page(rows))
    draw(SELECTORS)


if __name__ == "__main__":
    main()
