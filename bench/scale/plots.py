"""Plots of the runs: load, answers, violations and running processes over time; changes of scale are marked."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

from bench.scale.traffic import QuerySample
from bench.scale.watching import ScaleLog


def plot_runs(runs: Sequence[tuple[str, Sequence[QuerySample], ScaleLog]], file: Path) -> None:
    """Draw a column for each fleet: its name, its queries and its scale log."""
    mpl.rcParams["svg.hashsalt"] = "infaas"  # makes the file reproducible
    figure, axes = pyplot.subplots(3, len(runs), figsize=(4.5 * len(runs), 7), sharex=True, sharey="row", squeeze=False)
    for column, (name, samples, log) in enumerate(runs):
        load, violations, running = axes[:, column]
        asked = Counter(int(sample.sent_s) for sample in samples)
        violated = Counter(int(sample.sent_s) for sample in samples if sample.violated)
        answered = Counter(int(s.sent_s + s.total_ms / 1e3) for s in samples if s.status == "ok")
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
    axes[0, 0].set_ylabel("queries/s")
    axes[1, 0].set_ylabel("refused or late, %")
    axes[2, 0].set_ylabel("running")
    axes[0, 0].legend()
    axes[2, 0].legend()
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
