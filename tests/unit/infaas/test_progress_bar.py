"""Tests of the progress bar."""

import io

import pytest
from rich.console import Console

from infaas.cli import progress_bar
from infaas.cli.progress_bar import ProgressBar


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Redirect the console to a file that is no terminal, as for a log."""
    out = io.StringIO()
    monkeypatch.setattr(progress_bar, "err", Console(file=out, width=100))
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
