"""Run our system beside its peers: `python -m bench.peers [--only S,H,mix] [--peers triton,mosec]`.

Writes `bench/results.json`, `bench/peers/trials.json`, `docs/benchmarks.md` and a plot; results of other runs are kept.
Everything is measured several times in turn and the medians kept, because the machine's speed varies over longer times
than a trial. A round of all servers takes about half an hour, of two servers on one workload 3 to 5 minutes: `--rounds`
sets their number. `--lock` resolves the peers' environments again and
measures nothing.
"""

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.core.rounds import ROUNDS, take_rounds
from bench.core.system import running_at
from bench.load.http_load import compile_client
from bench.peers.contest import Toolbox, Wanted, measure_ours, measure_peer
from bench.peers.peer import Peer
from bench.peers.peers import PEERS
from bench.peers.report import GROUP, figures_of, keep_trials, write_trial_table
from bench.peers.running import lock_environment
from bench.peers.trial import Durations, Trial, median_trial
from bench.peers.workloads import WORKLOADS
from bench.plots import plot_trials
from bench.results import PLOTS, origin, publish
from process.settings import ServiceSettings
from schemas.errors import OperatorError

OURS: Final = "ours"
_BROKER: Final = "apache"


class Contest:
    """Measurement of a selection, round by round, with the progress bar."""

    def __init__(self, wanted: Wanted, tools: Toolbox, progress: Progress, bar: TaskID) -> None:
        self._wanted = wanted
        self._tools = tools
        self._progress = progress
        self._bar = bar
        self._goodputs: dict[tuple[str, str], float] = {}
        """Latest goodput by server and workload."""

    async def measure(self, home: Path, *, turned: bool) -> list[Trial]:
        """Measure the selection once, our system last, in a folder that may hold registered models already."""
        trials: list[Trial] = []
        for peer, workload in self._wanted.of_peers:
            near = self._goodputs.get((peer.name, workload.name))
            trials += await self._kept(peer.name, measure_peer(peer, workload, self._tools, near))
        if not self._wanted.ours:
            return trials
        self._progress.update(self._bar, description="ours: starting and registering")
        of_ours = self._wanted.of_ours(turned=turned)
        tasks = dict.fromkeys(workload.task for _way, workload in of_ours)
        async with running_at(home, _BROKER, *tasks) as system:
            for way, workload in of_ours:
                near = self._goodputs.get((way, workload.name))
                trials += await self._kept(way, measure_ours(system, way, workload, self._tools, near))
        return trials

    async def _kept(self, name: str, measuring: Awaitable[Trial]) -> list[Trial]:
        """Return a trial; a failing server is logged, and the others are still measured."""
        console, trials = self._progress.console, list[Trial]()
        try:
            trials.append(trial := await measuring)
            self._goodputs[trial.server, trial.workload] = trial.goodput
            _tell(console, trial)
        except (RuntimeError, OperatorError, TimeoutError) as error:
            console.log(f"[red]{name} is skipped:[/] {escape(str(error))}")
        self._progress.advance(self._bar)
        return trials


async def measure_rounds(wanted: Wanted, cache: Path, home: Path | None, console: Console) -> list[Trial]:
    """Measure the selection in all rounds. Without `home`, each round has a new folder for our system."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("compiling the client", total=0)
        client = await compile_client(cache)
        tools = Toolbox(
            client, cache, Durations(), lambda who, what: progress.update(bar, description=f"{who}: {what}")
        )
        contest, of_round = Contest(wanted, tools, progress, bar), len(wanted.of_peers) + len(wanted.of_ours())

        async def take(number: int) -> list[Trial]:
            progress.update(bar, total=max(wanted.rounds, number + 1) * of_round)
            with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
                return await contest.measure(home or Path(folder), turned=number % 2 == 1)

        rounds = await take_rounds(take, wanted.rounds)
    of_one: defaultdict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in chain.from_iterable(rounds.taken):
        of_one[trial.server, trial.workload].append(trial)
    return [replace(median_trial(one), drift=rounds.drift, repeated=rounds.repeated) for one in of_one.values()]


def _tell(console: Console, trial: Trial) -> None:
    cpu = ", ".join(f"{kind} {spent:.2f}" for kind, spent in trial.cpu_ms.items() if spent >= 0.005)
    console.log(
        f"{trial.workload}, {trial.server}: goodput {trial.goodput:.0f}/s, CPU ms a query: {cpu}; "
        f"client {trial.client_cpu_ms:.2f}"
    )


async def lock(peers: Sequence[Peer], console: Console) -> None:
    """Resolve the peers' environments."""
    for peer in filter(lambda peer: peer.requirements, peers):
        console.log(f"locking {peer.name}")
        await lock_environment(peer)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="S,H,mix", help="workloads: some of S, H and mix")
    parser.add_argument(
        "--peers", default=",".join((*PEERS, OURS)), help=f"servers: some of {', '.join(PEERS)} and {OURS}"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        choices=range(1, 10),
        metavar="N",
        help="take all measurements N times, and keep the medians",
    )
    parser.add_argument("--home", type=Path, help="folder of the system; kept, so that models are registered only once")
    parser.add_argument(
        "--lock", action="store_true", help="resolve the peers' environments again, and measure nothing"
    )
    return parser.parse_args()


def main() -> None:
    """Parse the command line, run, print and write."""
    given = _parse()
    console = Console()
    names = set(given.peers.split(","))
    if unknown := names - {*PEERS, OURS}:
        raise SystemExit(f"there is no peer {', '.join(unknown)}; there are {', '.join(PEERS)} and {OURS}")
    peers = [peer for name, peer in PEERS.items() if name in names]
    if given.lock:
        asyncio.run(lock(peers, console))
        return
    only = set(given.only.split(","))
    workloads = [each for name, each in WORKLOADS.items() if name in only or (name.endswith("mix") and "mix" in only)]
    wanted = Wanted(workloads, peers, OURS in names, given.rounds)
    cache = ServiceSettings().home.absolute() / "bench-peers"
    begin = origin()
    trials = asyncio.run(measure_rounds(wanted, cache, given.home, console))
    figures = figures_of(trials)
    publish(console, figures, begin, GROUP)
    kept = keep_trials(trials, begin)
    write_trial_table(kept)
    plot_trials(kept, PLOTS / "goodput.svg")


if __name__ == "__main__":
    main()
