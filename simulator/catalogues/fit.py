"""Fits the formula's constants, and states its errors: `python -m simulator.catalogues.fit`.

The sum of squared logarithms of predicted over published latencies is minimised, each series of batches with the same
weight, one constant at a time in ever smaller steps.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from msgspec.structs import asdict, replace

from simulator.catalogues.latency_formula import FITTED, FormulaConstants, latency_s
from simulator.catalogues.tables import PublishedLatency, read_architectures, read_devices, read_published

SERVED: Final = ("nvidia-resnet50",)
"""Sources that measured at a server, with the copy of the inputs and the server's own time."""
_FIRST_STEP: Final = 0.3
_LAST_STEP: Final = 1e-4

_ARCHITECTURES: Final = read_architectures()
_DEVICES: Final = read_devices()


def ratio(row: PublishedLatency, constants: FormulaConstants = FITTED) -> float:
    """Return the predicted over the published latency."""
    served = row.source in SERVED
    seconds = latency_s(
        _ARCHITECTURES[row.architecture], _DEVICES[row.hardware], row.precision, row.batch, constants, copied=served
    )
    return (1e3 * seconds + (constants.served_ms if served else 0.0)) / row.latency_ms


def loss(rows: Sequence[PublishedLatency], constants: FormulaConstants) -> float:
    """Return the sum of squared logarithms of the ratios, each series with weight 1."""
    lengths = Counter(map(_series, rows))
    return sum(math.log(ratio(row, constants)) ** 2 / lengths[_series(row)] for row in rows)


def fit(rows: Sequence[PublishedLatency], start: FormulaConstants = FITTED) -> FormulaConstants:
    """Return the constants that minimise the loss, by coordinate descent from `start`."""
    best, least, step = start, loss(rows, start), _FIRST_STEP
    while step > _LAST_STEP:
        before = least
        for name, value in asdict(best).items():
            for factor in (1 + step, 1 / (1 + step)):
                tried = replace(best, **{name: value * factor})
                if (found := loss(rows, tried)) < least:
                    best, least = tried, found
        if least == before:
            step /= 2
    return best


def factors(rows: Iterable[PublishedLatency]) -> list[float]:
    """Return the errors as factors of at least 1, ascending: 2 is twice or half of the published latency."""
    return sorted(max(found, 1 / found) for found in map(ratio, rows))


def _series(row: PublishedLatency) -> tuple[str, str, str, str]:
    return row.hardware, row.architecture, row.precision, row.source


def error_table() -> str:
    """Return the errors by device as a table in Markdown, those of the fitted latencies and those of the others."""
    lines = ["| device | latencies | | median | 9 in 10 below | worst |", "|---|---:|---|---:|---:|---:|"]
    rows = read_published()
    for device in dict.fromkeys(row.hardware for row in rows):
        for use in ("fit", "test"):
            if found := factors(row for row in rows if (row.hardware, row.use) == (device, use)):
                tenth = found[math.ceil(0.9 * len(found)) - 1]
                errors = f"{median(found):.2f} | {tenth:.2f} | {found[-1]:.2f}"
                lines.append(f"| {device} | {len(found)} | {use} | {errors} |")
    return "\n".join(lines)


def main() -> None:
    """Print the fitted constants, and the table of errors."""
    for name, value in asdict(fit([row for row in read_published() if row.use == "fit"])).items():
        print(f"{name}: {value:.3g}")
    print(error_table())


if __name__ == "__main__":
    main()
