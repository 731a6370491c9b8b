"""Reproducible plots: the runs of fleets under a load, and the trials of model servers."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

from bench.peers.report import KeptTrial, broker_cpu_ms, server_cpu_ms
from bench.peers.trial import Trial
from bench.scale.traffic import QuerySample
from bench.scale.watching import ScaleLog

_OURS: Final = "ours"
_WORKLOADS: Final = ("S", "H")


def plot_runs(runs: Sequence[tuple[str, Sequence[QuerySample], ScaleLog]], file: Path) -> None:
    """Draw a column for each fleet: load, answers, violations, and running processes; changes of scale are marked."""
    figure, axes = subplots(3, len(runs), (4.5 * len(runs), 7), sharex=True, sharey="row")
    for column, (name, samples, log) in enumerate(runs):
        load, violations, running = axes[:, column]
        asked = Counter(int(sample.due_s) for sample in samples)
        violated = Counter(int(sample.due_s) for sample in samples if sample.violated)
        answered = Counter(int(s.due_s + s.total_ms / 1e3) for s in samples if s.status == "ok")
        seconds = range(max(asked) + 1)
        load.set_title(f"fleet {name}")
        load.plot(seconds, [asked[s] for s in seconds], label="asked")
        load.plot(seconds, [answered[s] for s in seconds], label="answered", linewidth=0.8)
        violations.plot(seconds, [100 * violated[s] / max(asked[s], 1) for s in seconds], color="tab:red")
        seen = [second for second in log.seconds if second.at_s <= len(seconds)]
        running.step([s.at_s for s in seen], [s.workers for s in seen], where="post", label="workers")
        running.step([s.at_s for s in seen], [s.instances for s in seen], where="post", label="instances")
        running.set_xlabel("s")
        for axis in (load, violations, running):
            for at_s in log.changes_s():
                axis.axvline(at_s, color="0.85", linewidth=0.6, zorder=0)
    for row, label in enumerate(("queries/s", "refused or late, %", "running")):
        axes[row, 0].set_ylabel(label)
    axes[0, 0].legend()
    axes[2, 0].legend()
    save(figure, file)


def plot_trials(kept: Sequence[KeptTrial], file: Path) -> None:
    """Draw a row for each workload: the goodput, and the CPU time per query at it with the broker's part marked."""
    rows = [
        (name, sorted((each.trial for each in kept if each.trial.workload == name), key=lambda trial: trial.goodput))
        for name in _WORKLOADS
    ]
    figure, axes = subplots(len(rows), 2, (11, 3.4 * len(rows)))
    for (goodput, cost), (name, trials) in zip(axes, rows, strict=True):
        servers = [trial.server for trial in trials]
        goodput.barh(servers, [trial.goodput for trial in trials], color=[_color(trial) for trial in trials])
        goodput.set_title(f"{name}: goodput, queries/s")
        cost.barh(servers, [server_cpu_ms(trial) for trial in trials], color=[_color(trial) for trial in trials])
        brokers = [broker_cpu_ms(trial) for trial in trials]
        cost.barh(servers, brokers, left=[server_cpu_ms(trial) for trial in trials], color="0.75", label="broker")
        cost.set_title(f"{name}: CPU ms a query, at its goodput")
        cost.legend()
    save(figure, file)


def _color(trial: Trial) -> str:
    return "tab:blue" if trial.server.startswith(_OURS) else "0.5"


def subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    """Return a figure and its axes, in rows and columns; the size is in inches."""
    mpl.rcParams["svg.hashsalt"] = "infaas"
    return pyplot.subplots(rows, columns, figsize=size, squeeze=False, **options)


def save(figure: Any, file: Path) -> None:
    """Write a figure as SVG, the same bytes for the same figure, and close it."""
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
