"""Progress bar of long operations: finished steps, number of steps, and the current step."""

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from infaas.cli.output import err


class ProgressBar:
    """Progress bar as a receiver of progress; a context manager."""

    def __init__(self) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=err)
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._progress.live.transient = kind is not None  # erase the bar before an error is printed
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a permanent line."""
        self._progress.console.print(f"[dim]note:[/] {escape(text)}", highlight=False)

    def step(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` steps are finished."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, description=text)
