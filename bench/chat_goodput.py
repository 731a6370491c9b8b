"""Goodput of chats within objectives for TTFT and TPOT, where half of the callers accept the smaller of two models.

    all      every caller names the larger model
    half     every second caller names the task: the system answers by the cheapest model that meets the objectives

Both run on one system of two workers with a core each; both models are loaded on both. Callers come at a fixed rate,
whatever was answered. The goodput is the highest rate at which nine of ten callers of either model get the whole
answer within the objectives; a refusal counts as a miss.

The larger model is SmolLM2-135M in Q4_0. The smaller one stands for a model of a quarter of its work: its first two
layers of thirty, whose texts mean nothing. So a caller needs the larger one by its name, not by its quality.
"""

import argparse
import asyncio
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from rich.console import Console

from bench.core.figures import Figure, at_least
from bench.core.system import SystemUnderTest, infaas, running_at
from bench.generation import ask, chat_session
from bench.load.pace import pace
from bench.results import origin, publish
from registry.pipeline.generators.gguf import copied_gguf, requantise
from schemas.status import InstanceState
from store.placement import list_instances
from store.pool import open_pool
from zoo.chat import QUESTIONS, SMOLLM, chat_model_file

TTFT_MS: Final = 1000.0
TPOT_MS: Final = 60.0
TOKENS: Final = 16
IN_TIME: Final = 0.9
LEAST_GAIN: Final = 1.5
RATES: Final = (2.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 18.0, 20.0)
"""Callers a second, tried one after the other until a rate is missed."""
SECONDS: Final = 10.0
_BROKER: Final = "embedded"
_TASK: Final = "goodput-chat"
_SMALL: Final = "smaller"
_LARGE: Final = "larger"
_LAYERS: Final = 2
_SEQUENCES: Final = 4
_WORKERS: Final = 2
_QUESTIONS: Final = 10
"""Labelled questions: the quality of the models decides nothing here, and measuring it would take minutes."""
_LOAD_S: Final = 120.0
_LOOK_S: Final = 0.5
_HEADERS: Final = {"x-slo-ttft-ms": f"{TTFT_MS:g}", "x-slo-tpot-ms": f"{TPOT_MS:g}"}


class TriedCalls(NamedTuple):
    """Callers of one model in one try."""

    asked: int
    in_time: int

    @property
    def share(self) -> float:
        """Share that was answered in time."""
        return self.in_time / max(self.asked, 1)


def shorten(source: Path, target: Path, layers: int) -> None:
    """Write the first `layers` layers of a model, as a model of its own."""
    with copied_gguf(source, target, left_out=("llama.block_count",)) as (reader, writer):
        writer.add_block_count(layers)
        for tensor in reader.tensors:
            number = tensor.name.split(".")[1]
            if not number.isdigit() or int(number) < layers:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)


async def measure(rates: Sequence[float], console: Console) -> list[Figure]:
    """Measure on a system of its own."""
    with tempfile.TemporaryDirectory(prefix="infaas-goodput-") as folder:
        small, large = Path(folder) / "small.gguf", Path(folder) / "large.gguf"
        await asyncio.to_thread(requantise, chat_model_file(SMOLLM, Path(folder)), large, "q4-0")
        await asyncio.to_thread(shorten, large, small, _LAYERS)
        questions = Path(folder) / QUESTIONS.name
        questions.write_text("".join(QUESTIONS.read_text().splitlines(keepends=True)[:_QUESTIONS]))
        async with running_at(Path(folder) / "home", _BROKER, flags=("--workers", str(_WORKERS))) as system:
            for name, file in ((_SMALL, small), (_LARGE, large)):
                await _register(system, name, file, questions)
            await _until_loaded(system)
            found = await _search(system.gateway, rates, console)
    return [
        at_least(
            f"chats within {TTFT_MS:g} ms to the first token and {TPOT_MS:g} ms a token, half accept the smaller model",
            _BROKER, found[True], "/s", found[False], LEAST_GAIN,
        )
    ]  # fmt: skip


async def _register(system: SystemUnderTest, name: str, file: Path, questions: Path) -> None:
    await infaas(
        system.home, "register", str(file), "--task", _TASK, "--name", name, "--validation", str(questions),
        "--sequences", str(_SEQUENCES), "--context", "128", "--partitions", str(_WORKERS), "--variant", "llamacpp-q4-0",
        "--local",
    )  # fmt: skip
    await infaas(system.home, "scale", "pin", "variant", f"{name}.llamacpp-q4-0.cpu", "--min", str(_WORKERS))


async def _search(url: str, rates: Sequence[float], console: Console) -> dict[bool, float]:
    """Return the goodput with and without callers that accept the smaller model; both take turns."""
    found, missed = {False: 0.0, True: 0.0}, set[bool]()
    numbers = itertools.count()
    async with chat_session() as session:
        for rate in rates:
            for is_half in {False, True} - missed:
                tried = await _try(session, url, rate, numbers, is_half=is_half)
                shares = ", ".join(f"{name} {one.share:.0%} of {one.asked}" for name, one in tried.items())
                console.log(f"{'half' if is_half else 'all'} at {rate:g}/s: {shares}")
                if min(one.share for one in tried.values()) >= IN_TIME:
                    found[is_half] = rate
                else:
                    missed.add(is_half)
    return found


async def _until_loaded(system: SystemUnderTest) -> None:
    """Wait until both models are loaded on both workers."""
    async with asyncio.timeout(_LOAD_S), open_pool(system.postgres, max_size=1) as pool:
        while True:
            rows = await list_instances(pool)
            if sum(row.state is InstanceState.ACTIVE for row in rows) >= 2 * _WORKERS:
                return
            await asyncio.sleep(_LOOK_S)


async def _try(
    session: aiohttp.ClientSession, url: str, rate: float, numbers: "itertools.count[int]", *, is_half: bool
) -> dict[str, TriedCalls]:
    results: dict[str, list[bool]] = {}

    async def call(model: str) -> None:
        results.setdefault(model, []).append(await _is_in_time(session, url, next(numbers), model))

    async with asyncio.TaskGroup() as tasks:
        async for number in pace(rate, round(rate * SECONDS)):
            tasks.create_task(call(_TASK if is_half and number % 2 else _LARGE))
    return {model: TriedCalls(len(made), sum(made)) for model, made in results.items()}


async def _is_in_time(session: aiohttp.ClientSession, url: str, number: int, model: str) -> bool:
    try:
        ended = await ask(session, url, number, model=model, tokens=TOKENS, headers=_HEADERS)
    except (aiohttp.ClientError, TimeoutError):
        return False
    return ended.tokens > 0 and ended.ttft_s <= TTFT_MS / 1e3 and ended.tpot_s <= TPOT_MS / 1e3


def main() -> None:
    """Parse the command line, run, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="callers a second")
    console, begin, rates = Console(), origin(), parser.parse_args().rates
    publish(console, asyncio.run(measure(rates, console)), begin)


if __name__ == "__main__":
    main()
