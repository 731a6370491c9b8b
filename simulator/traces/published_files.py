"""Reads the files of published traces that lie beside this module; each is read once per process."""

import gzip
import lzma
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOW_S: Final = 600
"""Seconds of a window of `ClientWindows`."""
_DAY: Final = 24 * 3600 // WINDOW_S
"""Windows of a day."""
_FOLDER: Final = Path(__file__).parent


class PublishedRequests(NamedTuple):
    """Requests of a trace, by ascending time."""

    time_s: NDArray[np.float64]
    """Seconds since the first request."""
    units: NDArray[np.int64]
    """Tokens of the prompt."""


class ClientWindows(NamedTuple):
    """Arrivals of each client in each window in which it was active; the arrays have one length."""

    category: NDArray[np.str_]
    client: NDArray[np.int64]
    """Number of the client, from 0, over all categories."""
    window: NDArray[np.int64]
    """Number of the window since the begin of the recording."""
    recorded: NDArray[np.int64]
    """Number of windows in the recording of the client's category: 1 or 14 days."""
    rate_per_s: NDArray[np.float64]
    cv: NDArray[np.float64]
    """Coefficient of variation of the gaps between arrivals."""


@lru_cache
def published_requests(name: str) -> PublishedRequests:
    """Read the requests of a trace, e.g. `azure-conv-2023`."""
    time_s, units = _columns(gzip.decompress((_FOLDER / f"{name}.csv.gz").read_bytes()).decode())
    return PublishedRequests(np.array(time_s, np.float64), np.array(units, np.int64))


@lru_cache
def client_windows() -> ClientWindows:
    """Read the windows of ServeGen's clients."""
    text = lzma.decompress((_FOLDER / "servegen-rates-2025.csv.xz").read_bytes()).decode()
    category, client, second, rate_per_s, cv = _columns(text)
    numbers = np.array(second, np.int64) // WINDOW_S
    names = [*zip(category, client, strict=True)]
    clients = {name: number for number, name in enumerate(dict.fromkeys(names))}
    recorded = dict.fromkeys(category, 0)
    for name, number in zip(category, numbers.tolist(), strict=True):
        recorded[name] = max(recorded[name], (number // _DAY + 1) * _DAY)
    return ClientWindows(
        np.array(category),
        np.array([clients[name] for name in names], np.int64),
        numbers,
        np.array([recorded[name] for name in category], np.int64),
        np.array(rate_per_s, np.float64),
        np.array(cv, np.float64),
    )


def _columns(text: str) -> list[list[str]]:
    """Return the columns below the header; no cell holds a comma."""
    header, _, rows = text.partition("\n")
    columns = header.count(",") + 1
    cells = rows.rstrip("\n").replace("\n", ",").split(",")
    return [cells[column::columns] for column in range(columns)]
