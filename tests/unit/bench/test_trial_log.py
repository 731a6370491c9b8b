"""Tests of the log of trials: it continues, and does not mix commits."""

from pathlib import Path

from bench.ablation.trial import AblationFigures, AblationTrial
from bench.ablation.trial_log import TrialLog
from bench.results import Origin

TRIAL = AblationTrial("bursts", 11, "upgrades")
FIGURES = AblationFigures(0.1, 0.2, 30.0, 0.8, 0.5, 1.0)


HERE = Origin("abc", "2026-11-30", "a machine")


def test_trial_log_continues_where_it_was(tmp_path: Path) -> None:
    TrialLog(tmp_path / "new" / "log.jsonl", HERE).add(TRIAL, FIGURES)
    again = TrialLog(tmp_path / "new" / "log.jsonl", HERE._replace(date="2026-12-01"))
    assert again.figures == {TRIAL: FIGURES}
    assert again.is_open
    assert again.origin == HERE


def test_trial_log_of_another_commit_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    TrialLog(path, HERE).add(TRIAL, FIGURES)
    assert not TrialLog(path, HERE._replace(commit="other")).is_open
