"""Progress bar of a batch job: rows, rate, remaining time, cost so far, and the reason of retries."""

import time

from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from infaas.batch.asker import Trouble
from infaas.batch.sink import Progress
from infaas.cli.output import err, usd


class BatchBar:
    """Progress bar of a batch job (`BatchObserver`); a context manager."""

    def __init__(self) -> None:
        self._bars = Bars(
            BarColumn(), TextColumn("{task.fields[rows]}"), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=err, speed_estimate_period=60,
        )  # fmt: skip
        self._bar: TaskID | None = None
        self._total: int | None = None
        self._began_s = time.monotonic()
        self._before = 0

    def __enter__(self) -> "BatchBar":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def begun(self, total: int | None, progress: Progress) -> None:
        """See `BatchObserver.begun`."""
        self._total, self._before, self._began_s = total, progress.rows, time.monotonic()
        self._bar = self._bars.add_task("", total=total, completed=progress.rows, rows=self._rows(progress))

    def advanced(self, progress: Progress) -> None:
        """See `BatchObserver.advanced`."""
        rate = (progress.rows - self._before) / max(time.monotonic() - self._began_s, 1e-9)
        failed = f", [red]{progress.failed:,} failed[/]" if progress.failed else ""
        self._update(
            completed=progress.rows, rows=self._rows(progress),
            description=f"{rate:,.0f} rows/s, {usd(progress.cost)}{failed}",
        )  # fmt: skip

    def trouble(self, trouble: Trouble) -> None:
        """Show the reason why queries are retried."""
        self._update(description=f"[yellow]waits:[/] {escape(trouble.reason)}")

    def _rows(self, progress: Progress) -> str:
        return f"{progress.rows:,}" + ("" if self._total is None else f"/{self._total:,}")

    def _update(self, **fields: object) -> None:
        if self._bar is not None:
            self._bars.update(self._bar, **fields)  # pyright: ignore[reportArgumentType] - passed by name


def duration(seconds: float) -> str:
    """Format a duration: `9.4 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
