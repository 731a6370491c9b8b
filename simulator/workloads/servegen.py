"""ServeGen's clients as arrivals: a renewal process with gamma gaps for each client and window of ten minutes.

The recording has the rate and the coefficient of variation of each client in each window, over 1 or 14 days, depending
on the category. A longer sample repeats it. Source: ServeGen, Alibaba, 2025, which models clients in the same way;
`simulator/traces/README.md` states the licence.
"""

from typing import Annotated, Final, Literal

import numpy as np
from msgspec import Meta
from numpy.random import Generator
from numpy.typing import NDArray

from simulator.traces.published_files import WINDOW_S, client_windows
from simulator.workloads.arrival_process import ArrivalProcess, ArrivalSample, Seconds
from simulator.workloads.gamma import gamma_times

_LEAST_CV: Final = 0.01


class ServeGen(ArrivalProcess, frozen=True, kw_only=True, tag="servegen"):
    """Arrivals of up to 421 clients, each of which draws its task and needs once."""

    category: (
        Literal["language/m-large", "language/m-mid", "language/m-small", "reason/deepseek-r1", "multimodal/mm-image"]
        | None
    ) = None
    """Category of the clients; None: all."""
    scale: Annotated[float, Meta(gt=0, le=1000)] = 1
    """Factor of the rate of each client."""
    offset: Seconds = 0
    """Second of the recording at which the sample begins."""

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`."""
        windows, end_s = client_windows(), self.offset + duration_s
        times, clients = [np.zeros(0)], [np.zeros(0, np.int64)]
        for number in range(int(self.offset // WINDOW_S), int(np.ceil(end_s / WINDOW_S))):
            for row in self._rows(number).tolist():
                rate_per_s, cv = float(windows.rate_per_s[row]) * self.scale, max(float(windows.cv[row]), _LEAST_CV)
                time_s = number * WINDOW_S + gamma_times(rate_per_s, cv, WINDOW_S, random)
                times.append(time_s[(time_s >= self.offset) & (time_s < end_s)] - self.offset)
                clients.append(np.full(len(times[-1]), windows.client[row]))
        time_s = np.concatenate(times)
        order = np.argsort(time_s, kind="stable")
        return ArrivalSample(time_s[order], client=np.concatenate(clients)[order])

    def _rows(self, number: int) -> NDArray[np.int64]:
        """Return the rows of the clients that are active in a window of the sample."""
        windows = client_windows()
        active = windows.window == number % windows.recorded
        return np.flatnonzero(active if self.category is None else active & (windows.category == self.category))
