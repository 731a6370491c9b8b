"""Figures and tables from trials.

A figure is a ratio of two trials of one run, with its target. All trials are kept in `bench/peers/trials.json`, each
with its commit, day and machine; the table in `docs/benchmarks.md` is made from this file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from bench.core.figures import Figure, Measured, at_least, beside, plain
from bench.peers import ours
from bench.peers.trial import OVERLOAD, Trial
from bench.results import SERVERS, TRIALS, Origin, replace_table, speed_changes, spread

GROUP: Final = "peers"
_BROKER: Final = "apache"
_BARE: Final = "bare-kafka"
_BROKERS_PROCESS: Final = "java"
_PLOT: Final = "![Goodput and CPU a query of each server, on S and on H](goodput.svg)"
_OVER: Final = f"+{100 * (OVERLOAD - 1):.0f} %"


class KeptTrial(msgspec.Struct, frozen=True):
    """Trial with its origin."""

    trial: Trial
    commit: str
    date: str
    machine: str


class Aim(msgspec.Struct, frozen=True):
    """Target: the goodput of one trial should be `limit` times another's; each key is (server, workload)."""

    name: str
    ours: tuple[str, str]
    baseline: tuple[str, str]
    limit: float


AIMS: Final = (
    Aim("S goodput by HTTP, pinned, over MLServer's", (ours.BY_HTTP, "S"), ("mlserver", "S"), 1.2),
    Aim("S goodput by task over pinned", (ours.BY_TASK, "S"), (ours.BY_HTTP, "S"), 0.95),
    Aim("H goodput by HTTP, pinned, over Triton's", (ours.BY_HTTP, "H"), ("triton", "H"), 0.95),
    Aim(
        "sentiment mix over Triton serving the accurate model to all",
        (ours.BY_TASK, "sentiment mix"),
        ("triton", "sentiment mix"),
        1.3,
    ),
    Aim(
        "sentiment mix with cascades over Triton serving the accurate model to all",
        (ours.BY_CASCADE, "sentiment mix"),
        ("triton", "sentiment mix"),
        1.3,
    ),
    Aim(
        "mnist mix over MLServer serving the accurate model to all",
        (ours.BY_TASK, "mnist mix"),
        ("mlserver", "S"),
        1.2,
    ),
)
_IN_TIME: Final = 0.95
_ACCEPTED: Final = 0.9


def figures_of(trials: Sequence[Trial]) -> list[Figure]:
    """Return the figures of one run; figures whose trials are missing are omitted."""
    by_key = {(trial.server, trial.workload): trial for trial in trials}
    found: list[Figure] = []
    for aim in AIMS:
        own, base = by_key.get(aim.ours), by_key.get(aim.baseline)
        if own and base:
            figure = at_least(aim.name, _BROKER, _rounds(own), "queries/s", _rounds(base), aim.limit)
            found.append(replace(figure, drift=own.drift, repeated=own.repeated))
    found += _over_bare(by_key)
    for workload in ("S", "H"):
        trial = by_key.get((ours.BY_HTTP, workload))
        found += _beyond(trial) if trial else ()
    return found


def _rounds(trial: Trial) -> Measured:
    return trial.rounds or trial.goodput


def _over_bare(by_key: Mapping[tuple[str, str], Trial]) -> Iterator[Figure]:
    """Yield our goodput over a bare program's through a broker, which is the upper bound."""
    for workload in ("S", "H"):
        own, bare = by_key.get((ours.BY_HTTP, workload)), by_key.get((_BARE, workload))
        if own and bare:
            name = f"{workload} goodput by HTTP, pinned, over a bare program's by Kafka"
            figure = beside(name, _BROKER, _rounds(own), "queries/s", _rounds(bare))
            yield replace(figure, drift=own.drift, repeated=own.repeated)


def _beyond(trial: Trial) -> Iterator[Figure]:
    """Yield the figures of a load beyond the server's own goodput."""
    in_time, accepted = trial.overload_in_time, trial.overload_accepted
    figure = plain(f"{trial.workload} by HTTP, pinned, {_OVER}: accepted queries in time", _BROKER, 100 * in_time, "%")
    yield replace(figure, target=f">= {100 * _IN_TIME:g} %", passed=in_time >= _IN_TIME)
    name = f"{trial.workload} by HTTP, pinned, {_OVER}: accepted, over the goodput"
    yield at_least(name, _BROKER, accepted, "queries/s", trial.goodput, _ACCEPTED)
    name = f"{trial.workload} by HTTP, pinned, {_OVER}: goodput, over the goodput"
    yield at_least(name, _BROKER, accepted * in_time, "queries/s", trial.goodput, _ACCEPTED)


def keep_trials(trials: Iterable[Trial], taken: Origin) -> list[KeptTrial]:
    """Store these trials, replacing earlier ones of the same server and workload. Returns all stored trials."""
    kept = {(each.trial.server, each.trial.workload): each for each in read_trials()}
    kept |= {(trial.server, trial.workload): KeptTrial(trial, *taken) for trial in trials}
    found = sorted(kept.values(), key=lambda each: (each.trial.workload, -each.trial.goodput))
    TRIALS.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return found


def read_trials() -> list[KeptTrial]:
    """Return all stored trials."""
    return msgspec.json.decode(TRIALS.read_bytes(), type=list[KeptTrial]) if TRIALS.exists() else []


def write_trial_table(kept: Sequence[KeptTrial]) -> None:
    """Write the table of all servers, and the plot below it, into `docs/peers/servers.md`."""
    replace_table(SERVERS, "bench-peers-trials", f"{trial_table(kept)}\n{_PLOT}\n")


def trial_table(kept: Sequence[KeptTrial]) -> str:
    """Format the table of all servers in Markdown; the machines are listed below it."""
    machines = list(dict.fromkeys(each.machine for each in kept))
    lines = [
        "| workload | server | settings | goodput/s | p50 / p99 ms at it | closed loop of 1, 16, 64: /s "
        "| p50 / p99 ms of these | CPU ms a query: server, broker, client "
        f"| {_OVER}: accepted/s, in time | speed | commit | date | machine |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---|---|---|---|",
    ]
    lines += [
        f"{_cells(each.trial)} | {each.commit} | {each.date} | {machines.index(each.machine) + 1} |" for each in kept
    ]
    lines += ["", *(f"Machine {number}: {name}." for number, name in enumerate(machines, start=1))]
    return "\n".join(lines) + "\n"


def _cells(trial: Trial) -> str:
    cells = (
        trial.workload,
        trial.server,
        trial.settings,
        _goodput(trial),
        f"{trial.goodput_p50_ms:.1f} / {trial.goodput_p99_ms:.1f}",
        ", ".join(f"{loop.rate:,.0f}" for loop in trial.closed),
        ", ".join(f"{loop.p50_ms:.1f} / {loop.p99_ms:.1f}" for loop in trial.closed),
        f"{server_cpu_ms(trial):.2f}, {broker_cpu_ms(trial):.2f}, {trial.client_cpu_ms:.2f}",
        f"{trial.overload_accepted:,.0f}, {100 * trial.overload_in_time:.0f} %",
        speed_changes(trial.drift, trial.repeated),
    )
    return "| " + " | ".join(cells)


def _goodput(trial: Trial) -> str:
    """Format the goodput, with the minimum and maximum of several rounds."""
    return f"{trial.goodput:,.0f}{spread(trial.rounds)}"


def server_cpu_ms(trial: Trial) -> float:
    """Return the CPU milliseconds per query of the server, without the broker's."""
    return sum(trial.cpu_ms.values()) - broker_cpu_ms(trial)


def broker_cpu_ms(trial: Trial) -> float:
    """Return the CPU milliseconds per query of the broker; 0 for servers without one."""
    return trial.cpu_ms.get(_BROKERS_PROCESS, 0.0)
