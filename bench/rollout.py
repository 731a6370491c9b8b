"""Canary and rollback of a version: `python -m bench.rollout [--slow] [--rate 100] [--queries 4000]`.

Two models of the zoo become two versions of one model. While a plain HTTP client sends queries at a steady rate, the
second version gets copies, then 5 % and 50 % of the queries, and is then rolled back. Every query has an id, by which
the bench counts the answers of each version, the errors, and the time of the last answer of the rolled-back version.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import aiohttp
import msgspec
import numpy as np
from rich.console import Console

from bench.core.figures import Figure, beside, exactly, plain
from bench.core.system import infaas, running_system
from bench.load.pace import pace
from bench.results import show
from schemas.tensors import datatype_of
from schemas.versions import Rollout, VersionComparison
from zoo.catalog import MODELS
from zoo.minilm import build_minilm
from zoo.samples import labelled

MODEL: Final = "net"
TASK: Final = "rollout"
SHARES: Final = (0.05, 0.5)
_NEW: Final = f"{MODEL}-v2"
_BROKER: Final = "apache"
_SETTLED: Final = 100
"""Consecutive answers of the old version after which the new one counts as finished."""
_SHARE_SEEN: Final = "share seen (baseline: drawn by the ids)"
_ANSWER_S: Final = 60.0
_PATIENCE_S: Final = 120.0
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class TwoVersions(NamedTuple):
    """Two models to register as versions of one."""

    task: str
    """Task of the zoo whose inputs and labels are used."""
    models: tuple[str, str]


FAST: Final = TwoVersions("digits", ("digits-linear", "digits-mlp"))
SLOW: Final = TwoVersions("sentiment", ("minilm-l3", "minilm-l6"))
"""Models of some milliseconds, so that many queries are in flight at the rollback."""


class GivenAnswer(NamedTuple):
    """Answer to one query."""

    architecture: str
    at: float
    """Seconds since the epoch."""


class RolloutTrial(NamedTuple):
    """Result of a rollout and its rollback."""

    compared: VersionComparison
    """Comparison on copies of queries, before the new version answered any."""
    shown: int
    """Answers of the new version that clients saw during the comparison."""
    shares: dict[float, tuple[float, float]]
    """By requested share: the share drawn by the ids, and the share that the new version answered."""
    asked: int
    answers: dict[str, GivenAnswer]
    """Answers, by id."""
    errors: list[str]
    undrawn: int
    """Queries that the new version answered without being drawn."""
    last_bad_s: float
    """Seconds from the rollback to the last answer of the new version; 0 if that came before."""


class RolloutLoad:
    """Queries of one model at a steady rate by HTTP, each with its id, and their answers."""

    def __init__(self, session: aiohttp.ClientSession, url: str, body: bytes, rate: float) -> None:
        self._session = session
        self._url = url
        self._rate = rate
        self._body = body
        self._changed = asyncio.Condition()
        self.ids: list[str] = []
        """Ids of the queries, in order."""
        self.answers: dict[str, GivenAnswer] = {}
        self.errors: list[str] = []

    async def run(self) -> None:
        """Send queries until cancelled, then wait for those in flight."""
        run = uuid4().hex[:8]
        async with asyncio.TaskGroup() as tasks:
            try:
                async for number in pace(self._rate):
                    self.ids.append(f"{run}-{number}")
                    tasks.create_task(self._ask(self.ids[-1]))
            except asyncio.CancelledError:
                pass  # the group waits for the queries in flight

    async def next(self, count: int) -> list[str]:
        """Wait until the next `count` queries are answered. Returns their ids."""
        first = len(self.ids)
        await self.until(lambda: len(self.ids) >= first + count)
        ids = self.ids[first : first + count]
        await self.until(lambda: all(one in self.answers for one in ids) or bool(self.errors))
        return ids

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds` is true; it is evaluated after each answer."""
        async with asyncio.timeout(_PATIENCE_S), self._changed:
            await self._changed.wait_for(holds)

    def latest(self, count: int) -> list[GivenAnswer]:
        """Return the latest answers."""
        return list(self.answers.values())[-count:]

    async def _ask(self, query_id: str) -> None:
        try:
            async with self._session.post(self._url, data=self._body, headers={"infaas-id": query_id}) as response:
                found = _decode(await response.read())
                if response.status != 200:
                    raise aiohttp.ClientError(f"{response.status}: {found}")
            variant: str = found["parameters"]["variant"]
            self.answers[query_id] = GivenAnswer(variant.partition(".")[0], time.time())
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors.append(f"{query_id}: {error!r}")
        async with self._changed:
            self._changed.notify_all()


async def register_versions(home: Path, versions: TwoVersions = FAST) -> None:
    """Register two models of the zoo as versions of one model, the second without a rollout."""
    inputs, labels = labelled(versions.task)
    validation = home / "validation.npz"
    await asyncio.to_thread(np.savez, validation, allow_pickle=False, label=labels, **inputs)
    common = (f"--task={TASK}", f"--name={MODEL}", f"--validation={validation}", "--variant=onnx-fp32", "--hold")
    for name in versions.models:
        file = await asyncio.to_thread(_model_file, name, home)
        await infaas(home, "register", str(file), *common)


def _model_file(name: str, folder: Path) -> Path:
    model = next(model for model in MODELS if model.architecture == name)
    if model.file is not None:
        return model.file
    made = folder / f"{name}.onnx"
    build_minilm(model.minilm_depth, made)
    return made


async def try_and_roll_back(
    home: Path, gateway: str, rate: float, queries: int, versions: TwoVersions = FAST
) -> RolloutTrial:
    """Under load, give the second version its shares of `queries` queries each, and roll it back."""
    async with _load(gateway, query_of(versions), rate) as load:
        compared = await _compared(home, load, queries)
        shown = sum(_answered_new(load, one) for one in load.ids)
        shares = {share: await _share_seen(home, load, share, queries) for share in SHARES}
        rolled_back_at = await _roll_back(home, load)
        await load.next(queries)
    bad = [answer.at for answer in load.answers.values() if answer.architecture == _NEW]
    widest = _rollout(max(SHARES))
    undrawn = sum(a.architecture == _NEW and not widest.draws(i) for i, a in load.answers.items())
    return RolloutTrial(
        compared, shown, shares, len(load.ids), load.answers, load.errors, undrawn, max(max(bad) - rolled_back_at, 0.0)
    )


@asynccontextmanager
async def _load(gateway: str, body: bytes, rate: float) -> AsyncGenerator[RolloutLoad]:
    timeout, connector = aiohttp.ClientTimeout(total=_ANSWER_S), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        load = RolloutLoad(session, f"{gateway}/v2/models/{MODEL}/infer", body, rate)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(load.run())
            try:
                await load.until(lambda: bool(load.answers))
                yield load
            finally:
                running.cancel()


async def _compared(home: Path, load: RolloutLoad, queries: int) -> VersionComparison:
    """Give the second version copies of queries until half of `queries` have been compared."""
    await infaas(home, "rollout", f"{MODEL}@2", "--shadow", "100%")
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            await load.next(queries // 2)  # wait first: no copies are made while the command line takes all of the CPU
            found = _decode(await infaas(home, "history", MODEL, "--json"))["comparisons"]
            if found and found[0]["compared"] >= queries / 2:
                await infaas(home, "rollout", f"{MODEL}@2", "--shadow", "0%")
                return msgspec.convert(found[0], VersionComparison)


async def _share_seen(home: Path, load: RolloutLoad, share: float, queries: int) -> tuple[float, float]:
    await infaas(home, "rollout", f"{MODEL}@2", "--canary", f"{100 * share:g}%")
    known, rollout = len(load.ids), _rollout(share)
    # Selectors learn of it, and an instance loads, with a delay: wait for an answer to a query that half the share
    # would not draw.
    await load.until(lambda: any(_answered_new(load, i) for i in load.ids[known:] if not _rollout(share / 2).draws(i)))
    ids = await load.next(queries)
    return sum(map(rollout.draws, ids)) / len(ids), sum(_answered_new(load, i) for i in ids) / len(ids)


async def _roll_back(home: Path, load: RolloutLoad) -> float:
    """Roll back, and wait until only the old version answers. Returns the time of the rollback, in epoch seconds."""
    await infaas(home, "rollback", MODEL)
    await load.until(lambda: _NEW not in {answer.architecture for answer in load.latest(_SETTLED)})
    history = _decode(await infaas(home, "history", MODEL, "--json"))
    return msgspec.convert(history["rollout"], Rollout).changed_at.timestamp()  # pyright: ignore


def _answered_new(load: RolloutLoad, query_id: str) -> bool:
    return query_id in load.answers and load.answers[query_id].architecture == _NEW


def _rollout(share: float) -> Rollout:
    return Rollout(model=MODEL, serving=1, candidate=2, share=share)


def query_of(versions: TwoVersions) -> bytes:
    """Return the body of a query of one input, in JSON."""
    inputs, _labels = labelled(versions.task)
    tensors = [
        {"name": name, "shape": (1, *rows.shape[1:]), "datatype": datatype_of(rows), "data": rows[:1].ravel().tolist()}
        for name, rows in inputs.items()
    ]
    return msgspec.json.encode({"inputs": tensors})


def figures(trial: RolloutTrial) -> list[Figure]:
    """Return the trial's results as lines of a table."""
    compared = trial.compared
    agreed = 100 * compared.agreed / compared.compared
    return [
        *(
            beside(f"canary of {share:.0%}: {_SHARE_SEEN}", _BROKER, 100 * seen, "%", 100 * drawn)
            for share, (drawn, seen) in trial.shares.items()
        ),
        plain(f"shadow: copies with the same answer, of {compared.compared:,}", _BROKER, agreed, "%"),
        exactly("shadow: answers seen by a client", _BROKER, trial.shown),
        exactly(f"rollback under load: errors of {trial.asked:,} queries", _BROKER, len(trial.errors)),
        plain("rollback under load: until the last answer of the bad version", _BROKER, trial.last_bad_s, "s"),
    ]


async def measure(versions: TwoVersions, rate: float, queries: int) -> list[Figure]:
    """Measure on a system of its own."""
    async with running_system(_BROKER) as system:
        await register_versions(system.home, versions)
        return figures(await try_and_roll_back(system.home, system.gateway, rate, queries, versions))


def main() -> None:
    """Parse the command line, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="queries per second")
    parser.add_argument("--queries", type=int, default=4000, help="queries of each share, and after the rollback")
    parser.add_argument("--slow", action="store_true", help="use models that take some milliseconds")
    wanted = parser.parse_args()
    versions = SLOW if wanted.slow else FAST
    show(Console(), asyncio.run(measure(versions, wanted.rate, wanted.queries)))


if __name__ == "__main__":
    main()
