"""Plots of the trials: the goodput of each server, and its CPU time per query."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

from bench.peers.report import KeptTrial, broker_cpu_ms, server_cpu_ms
from bench.peers.trial import Trial

_OURS: Final = "ours"
_WORKLOADS: Final = ("S", "H")


def plot_trials(kept: Sequence[KeptTrial], file: Path) -> None:
    """Draw a row for each workload: the goodput, and the CPU time per query at it with the broker's part marked."""
    mpl.rcParams["svg.hashsalt"] = "infaas"  # makes the file reproducible
    rows = [
        (name, sorted((each.trial for each in kept if each.trial.workload == name), key=lambda trial: trial.goodput))
        for name in _WORKLOADS
    ]
    figure, axes = pyplot.subplots(len(rows), 2, figsize=(11, 3.4 * len(rows)), squeeze=False)
    for (goodput, cost), (name, trials) in zip(axes, rows, strict=True):
        servers = [trial.server for trial in trials]
        goodput.barh(servers, [trial.goodput for trial in trials], color=[_color(trial) for trial in trials])
        goodput.set_title(f"{name}: goodput, queries/s")
        cost.barh(servers, [server_cpu_ms(trial) for trial in trials], color=[_color(trial) for trial in trials])
        brokers = [broker_cpu_ms(trial) for trial in trials]
        cost.barh(servers, brokers, left=[server_cpu_ms(trial) for trial in trials], color="0.75", label="broker")
        cost.set_title(f"{name}: CPU ms a query, at its goodput")
        cost.legend()
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _color(trial: Trial) -> str:
    return "tab:blue" if trial.server.startswith(_OURS) else "0.5"
