"""Cascade against the cheapest single variant within a point of the best accuracy: CPU per query, and goodput.

Both are queried by name over HTTP, with random held-out inputs, so that the share of escalated inputs is realistic.
They take turns on the same system. The CPU time is measured for all processes and the broker, and for the computation
alone, input by input in this process. Goodput is the highest rate at which 99 % of the queries are answered in time.
Each query has a deadline, so that one trial leaves no queries for the next.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from rich.console import Console

from bench.core.bracket import find_goodput
from bench.core.figures import Figure, at_least, at_most
from bench.core.rounds import Rounds, take_rounds
from bench.core.system import SystemUnderTest, infaas
from bench.load.http_load import HttpLoad, LoadShape, compiled_client
from bench.load.http_message import infer_request
from bench.throughput.cost import cost_of_system
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas import headers as h
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.latency import BatchLatency, LatencyModel
from schemas.oip import encode_request
from zoo.samples import labelled

TASK: Final = "sentiment"
FIRST: Final = "textcnn.onnx-int8static.cpu"
THEN: Final = "minilm-l6.onnx-int8dyn.cpu"
POINT: Final = 0.01
"""Largest difference in accuracy between the two."""
OBJECTIVE_MS: Final = 100.0
IN_TIME: Final = 0.99
RATE: Final = 40.0
SECONDS: Final = 10.0
MOST_CPU: Final = 0.8
LEAST_GOODPUT: Final = 1.2
_QUERIES: Final = 300
_TRY_S: Final = 6.0
_CONNECTIONS: Final = 64
_LOADED_TRIES: Final = 40


class ProfiledVariant(msgspec.Struct, frozen=True):
    """One of the two variants that are compared."""

    variant: str
    accuracy: float
    latency: tuple[BatchLatency, ...]
    runtime: str
    precision: str
    artifact: str

    @property
    def input_s(self) -> float:
        """Mean seconds of a batch of one input."""
        return LatencyModel(self.latency, 1).batch_s(1)


async def measure(system: SystemUnderTest, broker: str, console: Console) -> list[Figure]:
    """Measure both variants. The system must be up, with the task registered."""
    await infaas(system.home, "cascade", TASK, "--first", FIRST, "--then", THEN)
    rows = json.loads(await infaas(system.home, "variants", "--task", TASK, "--json"))
    cascade, single = choose_pair([_compared(row) for row in rows if row["profile"]])
    for one in (cascade, single):
        console.log(f"{one.variant}: accuracy {one.accuracy:.2%}, {one.input_s * 1e3:.2f} ms an input")
        await infaas(system.home, "scale", "pin", "variant", one.variant, "--min", "1")
    async with compiled_client() as client:
        loads = [_load(system, client, one.variant) for one in (cascade, single)]
        for load in loads:
            await _warm_up(load)
        alone = await asyncio.to_thread(_computing_costs, system, (cascade, single))
        rounds = await _costs(system, loads, console)
        goodput = [await _goodput(load, console) for load in loads]
    costs = list(zip(*rounds.taken, strict=True))
    at = f"{TASK}, cascade over the best single variant"
    return [
        at_most(f"{at}: CPU an input, computing alone", broker, alone[0], "ms", alone[1], MOST_CPU),
        *rounds.of([at_most(f"{at}: CPU a query of all processes", broker, costs[0], "ms", costs[1], MOST_CPU)]),
        at_least(f"{at}: goodput within {OBJECTIVE_MS:g} ms", broker, goodput[0], "/s", goodput[1], LEAST_GOODPUT),
    ]


def choose_pair(variants: Sequence[ProfiledVariant]) -> tuple[ProfiledVariant, ProfiledVariant]:
    """Choose the cheapest cascade and the cheapest single variant within a point of the best single accuracy.

    Raises:
        OperatorError: there is no such cascade.
    """
    singles = [one for one in variants if one.runtime != "cascade"]
    enough = max(one.accuracy for one in singles) - POINT
    single = min((one for one in singles if one.accuracy >= enough), key=lambda one: one.input_s)
    cascades = [one for one in variants if one.runtime == "cascade" and one.accuracy >= single.accuracy - POINT]
    if not cascades:
        raise OperatorError(f"no cascade of {TASK} is within a point of {single.variant}")
    return min(cascades, key=lambda one: one.input_s), single


def _compared(row: Mapping[str, Any]) -> ProfiledVariant:
    variant, profile = row["variant"], row["profile"]
    latency = msgspec.convert(profile["latency"], tuple[BatchLatency, ...])
    return ProfiledVariant(
        variant["name"], profile["accuracy"], latency, variant["runtime"], variant["precision"], variant["artifact"]
    )


def _load(system: SystemUnderTest, client: Path, variant: str) -> HttpLoad:
    inputs, _labels = labelled(TASK)
    within = {h.LATENCY_MS: f"{OBJECTIVE_MS:g}"}
    requests = [
        infer_request(variant, encode_request({name: array[row : row + 1] for name, array in inputs.items()}), **within)
        for row in range(_QUERIES)
    ]
    return HttpLoad(client, urlsplit(system.gateway).port or 0, requests)


def _computing_costs(system: SystemUnderTest, compared: Sequence[ProfiledVariant]) -> list[float]:
    """Return the milliseconds of CPU per input of each variant, computed alone, taking turns; blocks."""
    inputs, _labels = labelled(TASK)
    sessions = [
        find_runtime(one.runtime).load(
            system.home / "artifacts" / one.artifact, Hardware.CPU, LoadOptions(precision=one.precision)
        )
        for one in compared
    ]
    taken = [0.0 for _ in sessions]
    for row in range(_QUERIES):
        one = {name: array[row : row + 1] for name, array in inputs.items()}
        for number, session in enumerate(sessions):
            began = time.process_time()
            session.infer(one)
            taken[number] += time.process_time() - began
    return [1e3 * seconds / _QUERIES for seconds in taken]


async def _warm_up(load: HttpLoad) -> None:
    """Send queries until most are answered, i.e. until the variant is loaded."""
    for _ in range(_LOADED_TRIES):
        report = await load.run(LoadShape(seconds=2.0, connections=4, rate=5.0))
        if report.answered > 0.5 * report.sent:
            return
    raise RuntimeError("a variant was not loaded in time; see the workers' logs")


async def _costs(system: SystemUnderTest, loads: Sequence[HttpLoad], console: Console) -> Rounds[list[float]]:
    """Return the milliseconds of CPU per query of each variant, taking turns."""
    shape = LoadShape(seconds=SECONDS, connections=_CONNECTIONS, rate=RATE)

    async def take(_number: int) -> list[float]:
        return [sum((await cost_of_system(system, load, shape, console)).values()) for load in loads]

    return await take_rounds(take)


async def _goodput(load: HttpLoad, console: Console) -> float:
    """Return the highest rate at which enough queries are answered in time."""

    async def sustains(rate: float) -> bool:
        shape = LoadShape(seconds=_TRY_S, connections=4 * _CONNECTIONS, rate=rate, objective_ms=OBJECTIVE_MS)
        report = await load.run(shape)
        console.log(f"{rate:.0f}/s: {report.share_in_time:.1%} in time, p99 {report.p99_ms:.1f} ms")
        return report.share_in_time >= IN_TIME or (await load.run(shape)).share_in_time >= IN_TIME

    return await find_goodput(RATE, sustains)
