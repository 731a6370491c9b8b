"""Progress bars of batch jobs over files and topics: rows, rate, remaining time, cost, and the reason of retries."""

import time

from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from infaas.batch.asker import Trouble
from infaas.batch.sink import Progress
from infaas.batch.topic_job import TopicLag
from infaas.cli.output import err
from schemas.hardware import usd


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


class TopicBar:
    """Progress bar of a batch job (`TopicObserver`); a context manager."""

    def __init__(self) -> None:
        self._bars = Bars(
            BarColumn(), TextColumn("lag {task.fields[lag]}"), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=err, speed_estimate_period=60,
        )  # fmt: skip
        self._bar: TaskID = self._bars.add_task("", total=None, lag="?")
        self._seen = (time.monotonic(), 0)

    def __enter__(self) -> "TopicBar":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def looked(self, lag: TopicLag, progress: Progress) -> None:
        """See `TopicObserver.looked`."""
        (before_s, before), now_s = self._seen, time.monotonic()
        self._seen = (now_s, progress.rows)
        rate = (progress.rows - before) / max(now_s - before_s, 1e-9)
        failed = f", [red]{progress.failed:,} failed[/]" if progress.failed else ""
        told = f"here {rate:,.0f} records/s of {lag.partitions} partitions, {usd(progress.cost)}{failed}"
        done = max(lag.total - lag.left, 0)
        self._bars.update(self._bar, total=lag.total, completed=done, lag=f"{lag.left:,}", description=told)

    def trouble(self, trouble: Trouble) -> None:
        """Show the reason why queries are retried."""
        self._bars.update(self._bar, description=f"[yellow]waits:[/] {escape(trouble.reason)}")
