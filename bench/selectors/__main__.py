"""`make bench-selectors`: simulates many selectors, and writes docs/selectors.md."""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from rich.progress import track

from bench.results import SELECTORS
from bench.selectors.cell import measure
from bench.selectors.page import WORKERS, cells, page


def main() -> None:
    """Simulate all cells, or those of the numbers of workers that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.selectors", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=WORKERS)
    planned = cells(parser.parse_args().workers)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(track(pool.map(measure, planned), "simulating", len(planned)))
    SELECTORS.write_text(page(rows))


if __name__ == "__main__":
    main()
