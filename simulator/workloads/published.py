"""Published traces as arrivals; `simulator/traces/README.md` states their sources."""

import numpy as np
from numpy.random import Generator

from simulator.traces.published_files import published_requests
from simulator.workloads.arrival_process import ArrivalProcess, ArrivalSample


class PublishedTrace(ArrivalProcess, frozen=True, kw_only=True):
    """Arrivals of a recording of about an hour, with units. They are the same for every seed."""

    @property
    def length_s(self) -> float:
        """Time of the last request, rounded up."""
        return float(np.ceil(published_requests(self._name).time_s[-1]))

    def sample(self, duration_s: float, random: Generator) -> ArrivalSample:
        """See `ArrivalProcess`.

        Raises:
            ValueError: the recording is shorter.
        """
        if duration_s > self.length_s:
            raise ValueError(f"{self._name} ends after {self.length_s:g} s; lower `seconds` or `speed`")
        requests = published_requests(self._name)
        until = int(np.searchsorted(requests.time_s, duration_s))
        return ArrivalSample(requests.time_s[:until], requests.units[:until])

    @property
    def _name(self) -> str:
        return str(self.__struct_config__.tag)


class AzureConversation(PublishedTrace, frozen=True, kw_only=True, tag="azure-conv-2023"):
    """Conversations of the Azure LLM inference trace 2023."""


class AzureCode(PublishedTrace, frozen=True, kw_only=True, tag="azure-code-2023"):
    """Code completions of the Azure LLM inference trace 2023."""


class MooncakeConversation(PublishedTrace, frozen=True, kw_only=True, tag="mooncake-conversation-2025"):
    """Conversations of Mooncake, 2025."""
