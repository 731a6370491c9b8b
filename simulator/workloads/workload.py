"""A workload: streams of queries, each with arrivals and a mix of kinds, from which a seed draws a trace.

Each stream has a random generator of its own, spawned from the seed, so that a change of one stream leaves the queries
of the others as they were.
"""

from typing import Annotated

import msgspec
from msgspec import Meta
from numpy.random import PCG64, Generator, SeedSequence

from schemas.errors import OperatorError
from simulator.trace import Trace
from simulator.workloads.arrival_process import PositiveSeconds, Seconds
from simulator.workloads.diurnal import Diurnal
from simulator.workloads.flash_crowd import FlashCrowd
from simulator.workloads.gamma import GammaRenewal
from simulator.workloads.markov import MarkovModulated
from simulator.workloads.mix import Mix
from simulator.workloads.poisson import Poisson
from simulator.workloads.published import AzureCode, AzureConversation, MooncakeConversation
from simulator.workloads.servegen import ServeGen
from simulator.workloads.steps import RateSteps

AnyProcess = (
    Poisson
    | GammaRenewal
    | MarkovModulated
    | Diurnal
    | FlashCrowd
    | RateSteps
    | AzureConversation
    | AzureCode
    | MooncakeConversation
    | ServeGen
)


class QueryStream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Queries whose arrivals follow one process."""

    arrivals: AnyProcess
    mix: Mix = Mix()
    seconds: PositiveSeconds | None = None
    """Length of the stream; None: that of its process."""
    start: Seconds = 0
    """Time at which the stream begins."""
    speed: Annotated[float, Meta(gt=0, le=1e6)] = 1
    """Factor by which the process runs faster: its rates are multiplied, its times divided."""

    def trace(self, random: Generator) -> Trace:
        """Draw the queries of the stream.

        Raises:
            ValueError: the length is missing, or the mix does not fit the arrivals.
        """
        length_s = self.arrivals.length_s
        if self.seconds is None and length_s is None:
            raise ValueError("its arrivals have no end: set `seconds`")
        sample = self.arrivals.sample(self.seconds * self.speed if self.seconds else length_s or 0.0, random)
        return self.mix.trace(sample._replace(time_s=self.start + sample.time_s / self.speed), random)


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Streams that run at the same time."""

    streams: Annotated[tuple[QueryStream, ...], Meta(min_length=1)]


def generate(workload: Workload, seed: int) -> Trace:
    """Draw the trace of a workload; equal workloads and seeds give equal traces.

    Raises:
        OperatorError: the seed is negative, or a stream does not determine its queries.
    """
    if seed < 0:
        raise OperatorError(f"the seed of a workload must be at least 0, not {seed}")
    seeds = SeedSequence(seed).spawn(len(workload.streams))
    traces = list[Trace]()
    for number, (stream, stream_seed) in enumerate(zip(workload.streams, seeds, strict=True)):
        try:
            traces.append(stream.trace(Generator(PCG64(stream_seed))))
        except ValueError as error:
            raise OperatorError(f"stream {number} of the workload: {error}") from error
    return traces[0].overlaid(traces[1:])
