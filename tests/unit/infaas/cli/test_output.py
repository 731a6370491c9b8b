"""Tests of the output of commands: tables, errors, amounts and the progress bar."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from infaas.cli import output
from infaas.cli.jobs import show_jobs
from infaas.cli.output import ProgressBar, report, show, table
from schemas.errors import OperatorError
from schemas.hardware import usd
from schemas.jobs import Job, JobError, JobState
from schemas.query import Mode


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Redirect the console to a file that is no terminal, as for a log."""
    out = io.StringIO()
    monkeypatch.setattr(output, "err", Console(file=out, width=100))
    return out


def test_progress_bar_disappears_at_an_error(written: io.StringIO) -> None:
    def fail() -> None:
        with ProgressBar() as bar:
            bar.note("a note stays")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert written.getvalue().strip() == "note: a note stays"


def test_progress_bar_stays_after_success(written: io.StringIO) -> None:
    with ProgressBar() as bar:
        bar.step(2, 2, "done")
    assert "2/2" in written.getvalue()


@pytest.mark.parametrize(
    ("width", "columns"), [(80, ["name", "task", "text"]), (50, ["name", "text"]), (20, ["name", "text"])]
)
def test_table_drops_optional_columns_before_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, columns: list[str]
) -> None:
    monkeypatch.setattr("infaas.cli.output.out", Console(width=width))
    name = "mnist-resnet.onnx-int8static.cpu"
    show(
        table(("name", "task", "text"), [(name, "sentiment", f"{name[:5]} would be late")], optional_columns=("task",))
    )
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("┃")] == columns
    first = "".join(row.split("│")[0].strip() for row in rows)
    assert first == name
    assert (name in rows[0]) == (width > 20)


def test_output_escapes_control_characters_and_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = "[/bold] \x1b]0;title\x07 \x9b2J [red]"

    def job(_home: Path, _endpoint: object, _request: object) -> list[Job]:
        failure = JobError(code="model_failed", message=written)
        at = datetime(2026, 1, 31, tzinfo=UTC)
        return [
            Job(id="1", model="m", task="t", state=JobState.FAILED, mode=Mode.OFFLINE, created_at=at, attempts=1,
                      error=failure)
        ]  # fmt: skip

    monkeypatch.setattr("infaas.cli.jobs.call", job)
    show(table(("what",), [(written,)]))
    report([OperatorError(written)])
    show_jobs(ids=["1"], home=Path(), as_json=False)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert r"[/bold] \x1b]0;title\x07 \x9b2J [red]" in text
    assert shown.out.count("[red]") == 2


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0 USD"),
        (12.0, "12 USD"),
        (0.25, "0.25 USD"),
        (0.00132, "0.0013 USD"),
        (0.000132, "130 µUSD"),
        (0.0000132, "13 µUSD"),
        (0.000000038, "38 nUSD"),
        (4.2e-11, "0.042 nUSD"),
    ],
)
def test_usd_has_two_digits_and_a_short_unit(amount: float, text: str) -> None:
    assert usd(amount) == text
