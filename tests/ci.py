"""Pytest plugin for CI: fails skipped tests, and keeps the failures of all suites in one file.

A CI machine can run every test, so a skip there would hide a defect. The file is printed last, since a log of many
suites may be cut at its beginning.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)
_FAILURES = Path("build", "test-failures.txt")
_LINES = 60
"""Lines of a failure that are kept, its last ones: the error, its place, and what the test logged."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _unskipped((yield))


def _unskipped(report: _Report) -> _Report:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason: Any = report.longrepr
        report.longrepr = f"skipped in CI: {reason[2] if isinstance(reason, tuple) else reason}"
        report.outcome = "failed"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    failures: list[pytest.TestReport] = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
    if os.environ.get("CI") and failures and "PYTEST_XDIST_WORKER" not in os.environ:
        _FAILURES.parent.mkdir(exist_ok=True)
        with _FAILURES.open("a") as file:
            for failure in failures:
                lines = failure.longreprtext.splitlines()[-_LINES:]
                file.write("\n".join([f"-- failed: {failure.nodeid} ({failure.when})", *lines, ""]))
